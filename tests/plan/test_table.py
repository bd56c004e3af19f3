"""A plan as a person reads it and as a program does: the numbers are those of the estimate, rounded as they are shown."""

from dataclasses import replace

import pytest

from job.plan.choose import PlanEstimate, Workload
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu
from job.plan.memory import TrainingPlan
from job.plan.model_catalogue import known_config
from job.plan.table import as_dict, describe, hours, render, render_one
from job.system.hardware import GIB

CARD = Gpu("A card", 15.77, (7, 0), {"fp16": 125, "fp32": 15.7}, 0.25, 900, price_usd_per_hour=3.0, kind="V100-16GB")
ESTIMATE = PlanEstimate(CARD, TrainingPlan("fp16", "nf4", 2, 5), 7.25 * GIB, 12.6, 2.0, True, "because", 4)
WORK = Workload((256, 56), (150, 30), 5000, 8, r=16, percentiles=((150, 220, 256), (30, 50, 56)))


def cells(estimate: PlanEstimate) -> list[str]:
    return [cell for cell in render([estimate]).splitlines()[1].split("  ") if cell]


def test_a_row_of_the_table_by_hand():
    assert [cell.strip() for cell in cells(ESTIMATE)] == [
        "A card", "nf4+fp16", "2 x 4", "5", "7.2 of 15.8", "13", "1.40-4.00", "4.20-12.00", "because",
    ]  # fmt: skip


def test_a_slow_speed_keeps_a_digit_and_an_unknown_price_is_a_question_mark():
    row = [cell.strip() for cell in cells(replace(ESTIMATE, examples_per_s=9.96, gpu=replace(CARD, price_usd_per_hour=None)))]
    assert (row[5], row[7]) == ("10.0", "?")


def test_unquantised_weights_are_named_by_their_type_alone():
    assert cells(replace(ESTIMATE, plan=TrainingPlan("bf16", "none", 8, 0)))[1].strip() == "bf16"


def test_what_does_not_fit_has_its_memory_and_the_reason_and_no_other_number():
    row = [cell.strip() for cell in cells(replace(ESTIMATE, fits=False, peak_bytes=20 * GIB))]
    assert row == ["A card", "-", "-", "-", "20.0 of 15.8", "-", "-", "-", "does not fit: because"]


def test_every_line_of_the_table_has_its_columns_at_the_same_places():
    lines = render([ESTIMATE, replace(ESTIMATE, gpu=replace(CARD, name="Another longer name"), examples_per_s=1234)]).splitlines()
    assert len({line.index(word) for line, word in zip(lines, ("weights", "nf4+fp16", "nf4+fp16"), strict=True)}) == 1


def test_a_measured_speed_makes_the_range_of_hours_narrower():
    assert hours(ESTIMATE) == pytest.approx((1.4, 4.0))
    assert hours(replace(ESTIMATE, gpu=replace(CARD, speed=0.8))) == pytest.approx((1.8, 2.3))


def test_one_estimate_in_full():
    lines = [line.strip().split("  ", 1) for line in render_one(ESTIMATE, {"weights": 3.125, "a step": 4.0}).splitlines()]
    assert {name: value.strip() for name, value in lines} == {
        "GPU": "A card, 15.8 GiB, compute capability 7.0",
        "verdict": "fits",
        "why": "because",
        "micro-batch": "2 rows, accumulation 4",
        "recomputed": "5 blocks",
        "memory": "7.25 GiB",
        "weights": "3.12",
        "a step": "4.00",
        "speed": "12.6 examples/s, if MFU is 25%",
        "time": "1.40 to 4.00 hours",
        "price": "4.20 to 12.00 USD at 3.00 an hour",
    }


def test_one_estimate_without_a_price_and_with_a_measured_speed():
    estimate = replace(ESTIMATE, gpu=replace(CARD, price_usd_per_hour=None, speed=0.5))
    told = render_one(estimate, {})
    for expected in ("not in the catalogue", "12.6 examples/s, as measured before", "1.80 to 2.30 hours"):
        assert expected in told


def test_one_estimate_that_does_not_fit_has_no_speed_time_or_price():
    told = [line.split()[0] for line in render_one(replace(ESTIMATE, fits=False), {"weights": 3.125}).splitlines()]
    assert told == ["GPU", "verdict", "why", "micro-batch", "recomputed", "memory", "weights"]


def test_a_program_gets_the_plans_fields_and_the_same_numbers():
    assert as_dict(ESTIMATE) == {
        "gpu": "A card", "gpu_kind": "V100-16GB", "fits": True, "precision": "fp16", "quantization": "nf4", "micro_batch": 2,
        "checkpointed_blocks": 5, "padding_free": False, "shards": 1,
        "predicted_peak_gib": 7.25, "gpu_memory_gib": 15.77, "speed_factor": 1.0,
        "predicted_examples_per_s": 12.6, "predicted_hours": [1.4, 4.0], "predicted_usd": [4.2, 12.0], "price_usd_per_hour": 3.0,
        "reason": "because",
    }  # fmt: skip
    unpriced = as_dict(replace(ESTIMATE, gpu=replace(CARD, price_usd_per_hour=None, speed=0.5)))
    assert (unpriced["predicted_usd"], unpriced["speed_factor"]) == (None, 0.5)


def test_what_the_plan_is_for_stands_above_it():
    first, second, third = describe("google/flan-t5-xl", read_dimensions(known_config("google/flan-t5-xl")), WORK).splitlines()
    assert first == "google/flan-t5-xl: 2,850 million parameters, adapter 9,437,184"
    assert second == (
        "5,000 rows in all epochs, effective batch 8; inputs 150/220/256 tokens, answers 30/50/56 tokens (median/95 %/longest)"
    )
    assert third.startswith("predicted, not measured")


def test_a_causal_models_rows_have_one_length():
    work = replace(WORK, percentiles=((180, 260, 312), (0, 0, 0)))
    told = describe("x", read_dimensions(known_config("Qwen/Qwen2.5-0.5B-Instruct")), work)
    assert "; rows 180/260/312 tokens (median" in told


def test_that_memory_is_an_estimate_is_told_above_the_table():
    dimensions = read_dimensions(known_config("google/flan-t5-xl"))
    assert "an estimate" not in describe("x", dimensions, WORK)
    assert describe("x", replace(dimensions, caution=2.0), WORK).endswith(
        "memory is an estimate on the safe side: for models of this kind no formula was measured"
    )
