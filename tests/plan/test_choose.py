"""What is chosen for whom."""

import pytest

from job.plan.choose import PlanConstraints, Workload, choose
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
        read_dimensions(flan("xxl")), Gpu("small", 6.0, (8, 6), {"bf16": 50, "fp32": 10}, 0.3), WORK, PlanConstraints()
    )
    assert not estimate.fits
    assert "of 6.0" in estimate.reason
