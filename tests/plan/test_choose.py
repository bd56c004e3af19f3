"""What is chosen for whom: the fastest of all plans that fit, by a speed that can be worked out by hand."""

from dataclasses import replace

import pytest

from job.plan.choose import USABLE, PlanConstraints, Workload, candidate_plans, choose, seconds_per_row
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, read_catalogue
from job.plan.memory import TrainingPlan, peak_bytes
from job.plan.model_catalogue import known_config
from job.system.hardware import GIB

WORK = Workload(longest=(256, 56), mean=(150, 30), row_passes=5000, effective_batch_size=8)


CARDS = read_catalogue()


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


@pytest.mark.parametrize("size", ["small", "base", "large", "xl"])
def test_a_v100_with_16_gb_trains_small_to_xl_without_quantisation(size):
    estimate = choose(read_dimensions(flan(size)), CARDS["V100-16GB"], WORK, PlanConstraints())
    assert estimate.fits
    assert (estimate.plan.precision, estimate.plan.quantization) == ("fp16", "none")


def test_a_v100_with_16_gb_trains_xxl_with_nf4():
    estimate = choose(read_dimensions(flan("xxl")), CARDS["V100-16GB"], WORK, PlanConstraints())
    assert estimate.fits
    assert (estimate.plan.precision, estimate.plan.quantization) == ("fp16", "nf4")
    alone = peak_bytes(read_dimensions(flan("xxl")), TrainingPlan("fp16", "nf4", 8, 48), 256, 56, 16)
    assert alone < 0.6 * CARDS["V100-16GB"].memory_gib * GIB, "with room to spare where all blocks are checkpointed"


def test_cards_from_8_0_on_take_bf16_and_checkpoint_only_where_they_must():
    dimensions = read_dimensions(flan("xl"))
    ways = {name: choose(dimensions, CARDS[name], WORK, PlanConstraints()).plan for name in ("L4", "A100-40GB", "H100", "T4")}
    assert [ways[name].precision for name in ("L4", "A100-40GB", "H100", "T4")] == ["bf16", "bf16", "bf16", "fp16"]
    assert ways["H100"].checkpointed_blocks == 0
    assert 0 < ways["T4"].checkpointed_blocks < dimensions.blocks


def test_int8_and_what_else_was_asked_for_is_obeyed():
    asked = choose(read_dimensions(flan("base")), CARDS["A100-40GB"], WORK, PlanConstraints("int8", "bf16", True, 2))
    assert asked.plan == TrainingPlan("bf16", "int8", 2, 24)


def test_what_fits_nowhere_on_a_card_says_how_much_it_needs():
    estimate = choose(
        read_dimensions(flan("xxl")), Gpu("small", 6.0, (8, 6), {"bf16": 50, "fp32": 10}, 0.3, 600), WORK, PlanConstraints()
    )
    assert not estimate.fits
    assert "of 6.0" in estimate.reason


CONSTRAINTS = [
    PlanConstraints(),
    PlanConstraints("nf4"),
    PlanConstraints("int8", checkpointing=True),
    PlanConstraints("none", "fp32", checkpointing=False),
    PlanConstraints(micro_batch=4),
]


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=str)
@pytest.mark.parametrize("card", ["T4", "V100-32GB", "A100-40GB"])
@pytest.mark.parametrize("size", ["base", "xl", "xxl"])
def test_no_other_plan_that_fits_is_faster_and_what_does_not_fit_needs_the_least(size, card, constraints):
    """All plans tried one by one; quantised ones count only where no other fits, or where they were asked for."""
    dimensions, gpu = read_dimensions(flan(size)), CARDS[card]
    found = choose(dimensions, gpu, WORK, constraints)
    peaks, speeds = {}, {}
    for plan in candidate_plans(dimensions, gpu, WORK, constraints):
        peaks[plan] = peak_bytes(dimensions, plan, 256, 56, 16)
        if peaks[plan] <= USABLE * gpu.memory_gib * GIB:
            speeds[plan] = 1 / seconds_per_row(dimensions, gpu, WORK, plan)
    if constraints.quantization == "auto" and any(plan.quantization == "none" for plan in speeds):
        speeds = {plan: speed for plan, speed in speeds.items() if plan.quantization == "none"}
    assert found.fits == bool(speeds)
    assert found.plan in peaks
    if speeds:
        assert found.examples_per_s == max(speeds.values())
    else:
        assert found.peak_bytes == min(peaks.values())


def test_the_plans_that_are_open_are_the_divisors_of_the_batch_and_every_number_of_blocks():
    dimensions, gpu = read_dimensions(flan("small")), CARDS["T4"]
    plans = list(candidate_plans(dimensions, gpu, replace(WORK, effective_batch_size=12), PlanConstraints()))
    assert {plan.micro_batch for plan in plans} == {1, 2, 3, 4, 6, 12}
    assert {plan.checkpointed_blocks for plan in plans} == set(range(17))
    assert {plan.quantization for plan in plans} == {"none", "nf4"}, "int8 only where it was asked for"
    assert len(plans) == len(set(plans)) == 2 * 6 * 17


def test_the_speed_by_hand():
    """FLAN-T5 XL on an A100 of 312 TFLOPS at an MFU of 0.35, 32 rows of 180 tokens at once: half the speed at 500 tokens."""
    dimensions, gpu = read_dimensions(flan("xl")), CARDS["A100-40GB"]
    flops = dimensions.training_flops(150, 30)
    plain = flops / (312e12 * 0.35) * (1 + 500 / (32 * 180))
    assert seconds_per_row(dimensions, gpu, WORK, TrainingPlan("bf16", "none", 32, 0)) == pytest.approx(plain)
    assert seconds_per_row(dimensions, gpu, WORK, TrainingPlan("bf16", "none", 32, 24)) == pytest.approx(plain * 1.25)
    assert seconds_per_row(dimensions, replace(gpu, speed=2.0), WORK, TrainingPlan("bf16", "none", 32, 0)) == pytest.approx(
        plain / 2
    )


def test_nf4_adds_what_reading_and_writing_the_weights_takes():
    """Half a byte read and two written, twice or, recomputed, three times; of 1,555 GB/s three quarters are reached."""
    dimensions, gpu = read_dimensions(flan("xl")), CARDS["A100-40GB"]
    for blocks, passes in ((0, 2), (24, 2.5), (48, 3)):
        plain, nf4 = (seconds_per_row(dimensions, gpu, WORK, TrainingPlan("bf16", kind, 32, blocks)) for kind in ("none", "nf4"))
        assert nf4 - plain == pytest.approx(passes * 2.5 * dimensions.linears / (0.75 * 1555e9) / 32)


def test_int8_adds_widening_backward_and_the_rounding_of_every_token():
    """7 bytes a weight but for `wo`, which stays wide, and for inputs and outputs, 2,048 or 5,120, 7 and 10 bytes a token."""
    dimensions, gpu = read_dimensions(flan("xl")), CARDS["A100-40GB"]
    plain, int8 = (seconds_per_row(dimensions, gpu, WORK, TrainingPlan("bf16", kind, 64, 0)) for kind in ("none", "int8"))
    attention, feed_forward = 4 * (2048 + 2048), 3 * (2048 + 5120)
    sides = 24 * (attention + feed_forward) + 24 * (2 * attention + feed_forward)
    assert dimensions.linear_sides == sides
    moved = 7 * (dimensions.linears - dimensions.in_float32) / 64 + 8.5 * 180 * sides / 2
    assert int8 - plain == pytest.approx(moved / (0.75 * 1555e9))


def test_a_quantised_t5_beside_float16_computes_wo_in_float32():
    """On a V100 15.7 TFLOPS, of which seven tenths are reached, instead of a quarter of 125."""
    dimensions, gpu = read_dimensions(flan("xxl")), CARDS["V100-16GB"]
    whole = replace(dimensions, in_float32=0)
    slow, fast = (seconds_per_row(one, gpu, WORK, TrainingPlan("fp16", "nf4", 8, 0)) for one in (dimensions, whole))
    share = dimensions.training_flops(150, 30) * dimensions.in_float32 / dimensions.linears
    assert slow - fast == pytest.approx(share * (1 / (0.7 * 15.7e12) - 1 / (0.25 * 125e12)))
    assert seconds_per_row(dimensions, gpu, WORK, TrainingPlan("fp16", "none", 8, 0)) == pytest.approx(
        seconds_per_row(whole, gpu, WORK, TrainingPlan("fp16", "none", 8, 0))
    )


def test_a_small_model_takes_as_long_as_the_host_launches_kernels():
    """FLAN-T5 small: 155 kernels a block, 16 blocks, 30 microseconds each; more where the weights are quantised or recomputed."""
    for kind, kernels in (("none", 155), ("nf4", 210), ("int8", 320)):
        found = seconds_per_row(read_dimensions(flan("small")), CARDS["H100"], WORK, TrainingPlan("bf16", kind, 2, 0))
        assert found == pytest.approx(kernels * 16 * 30e-6 / 2)
    found = seconds_per_row(read_dimensions(flan("small")), CARDS["H100"], WORK, TrainingPlan("bf16", "none", 2, 16))
    assert found == pytest.approx(1.5 * 155 * 16 * 30e-6 / 2)


def test_the_speed_is_that_of_a_real_h200_where_it_waits_for_the_host():
    """What `make gpu-report` measured for FLAN-T5 XL, 8 rows at once, in examples a second."""
    for kind, measured in (("none", 35.9), ("nf4", 24.1)):
        found = seconds_per_row(read_dimensions(flan("xl")), CARDS["H200"], WORK, TrainingPlan("bf16", kind, 8, 0))
        assert 1 / found == pytest.approx(measured, rel=0.1)


def test_a_type_that_a_card_does_not_multiply_goes_at_the_speed_of_float32():
    dimensions, gpu = read_dimensions(flan("xl")), CARDS["V100-16GB"]
    slow, fast = (seconds_per_row(dimensions, gpu, WORK, TrainingPlan(kind, "none", 8, 0)) for kind in ("bf16", "fp16"))
    assert slow / fast == pytest.approx(125 / 15.7)


def test_hours_are_those_of_all_row_passes_and_accumulation_makes_up_the_batch():
    found = choose(read_dimensions(flan("xl")), CARDS["T4"], WORK, PlanConstraints(micro_batch=2))
    assert found.hours == pytest.approx(5000 / found.examples_per_s / 3600)
    assert found.accumulation == 4
    share = replace(WORK, effective_batch_size=6)  # of a GPU among several
    assert choose(read_dimensions(flan("xl")), CARDS["T4"], share, PlanConstraints(micro_batch=4)).accumulation == 2


def test_a_plan_fills_at_most_the_usable_share_of_the_memory():
    dimensions, plan = read_dimensions(flan("base")), TrainingPlan("bf16", "none", 8, 0)
    needed = peak_bytes(dimensions, plan, 256, 56, 16) / GIB
    for spare, fits in ((1.0001, True), (0.9999, False)):
        gpu = Gpu("x", spare * needed / 0.96, (8, 0), {"bf16": 100, "fp32": 10}, 0.3, 600)
        assert choose(dimensions, gpu, WORK, PlanConstraints("none", "bf16", False, 8)).fits is fits


@pytest.mark.parametrize(
    ("card", "constraints", "reason"),
    [
        ("H100", PlanConstraints(), "bf16"),
        ("H100", PlanConstraints("nf4", "fp32"), "fp32, as asked for; nf4, as asked for"),
        ("V100-32GB", PlanConstraints(checkpointing=True),
         "fp16, as capability 7.0 has no bf16; 48 of 48 blocks recomputed to save memory"),
    ],
)  # fmt: skip
def test_the_reason_names_what_made_it_so(card, constraints, reason):
    assert choose(read_dimensions(flan("xl")), CARDS[card], WORK, constraints).reason == reason
    measured = replace(CARDS[card], speed=0.9)
    told = choose(read_dimensions(flan("xl")), measured, WORK, constraints).reason
    assert told.endswith("; speed as an earlier run of yours measured it")


def test_nf4_that_was_not_asked_for_says_why():
    told = choose(read_dimensions(flan("xxl")), CARDS["V100-16GB"], WORK, PlanConstraints()).reason
    assert "; nf4, as unquantised weights do not fit; " in told


def test_an_estimate_of_the_memory_is_told_in_the_reason():
    dimensions = replace(read_dimensions(flan("small")), caution=2.0)
    assert choose(dimensions, CARDS["H100"], WORK, PlanConstraints()).reason == "bf16; memory estimated, on the safe side"
    assert choose(read_dimensions(flan("small")), CARDS["H100"], WORK, PlanConstraints()).reason == "bf16"
