"""The plan of a run: kept from the first step on, told in full, with the speed that earlier runs measured."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import T5Config

from job.config.settings import Settings
from job.errors import DataError, OutOfMemory
from job.model.load import BaseModel, load_config
from job.pipeline.plan import (
    choose_eval_batch_size,
    constraints,
    gpu_of,
    plan_for_machine,
    plan_run,
    smaller_plan,
    with_measured_speeds,
)
from job.pipeline.records import FORMAT, PlanRecord
from job.pipeline.run_folder import RunFolder
from job.plan.choose import PlanConstraints, Workload
from job.plan.gpu_catalogue import read_catalogue
from job.plan.memory import TrainingPlan
from job.plan.model_catalogue import known_config
from job.system.hardware import GIB, Hardware

WORK = Workload(longest=(256, 56), mean=(150, 30), row_passes=5000, effective_batch_size=8)
CARDS = read_catalogue()
CPU = Hardware("cpu", "CPU with 2 cores", 8 * GIB)
V100 = Hardware("cuda", "Tesla V100-SXM2-16GB", int(15.77 * GIB), (7, 0))
A100 = Hardware("cuda", "NVIDIA A100-SXM4-40GB", int(39.5 * GIB), (8, 0))


def flan(size: str) -> T5Config:
    return known_config(f"google/flan-t5-{size}")


@pytest.fixture
def tiny(t5_folder):
    return load_config(BaseModel(str(t5_folder)))


@pytest.fixture
def folder() -> RunFolder:
    folder = RunFolder(Path("output/r"), Path("logs/r"))
    folder.path.mkdir(parents=True)
    return folder


def leave_plan(name: str, kind: str | None, factor: float | None, age_s: int = 0, model_id: str = "google/flan-t5-xl") -> Path:
    """The plan.json of another run in OUTPUT_DIR."""
    path = Path("output", name, "plan.json")
    path.parent.mkdir(parents=True)
    PlanRecord(model_id, "fp16", "none", 8, 0, gpu_kind=kind, measured_speed_factor=factor).write(path)
    os.utime(path, (1_000_000 - age_s,) * 2)
    return path


def test_until_the_first_step_a_plan_is_made_anew(folder, tiny):
    first = plan_run(Settings(effective_batch_size=4), folder, CPU, tiny, WORK)
    second = plan_run(Settings(effective_batch_size=6), folder, CPU, tiny, WORK)
    assert (first.micro_batch, second.micro_batch) == (4, 6)
    assert PlanRecord.read(folder.plan).training_plan == second


def test_from_the_first_step_on_the_plan_stays_whatever_the_machine(folder, tiny):
    kept = PlanRecord("demo", "bf16", "nf4", 4, 2, True, seconds={"training": 7})
    kept.write(folder.plan)
    folder.checkpoints.mkdir()
    assert plan_run(Settings(), folder, CPU, tiny, WORK) == TrainingPlan("bf16", "nf4", 4, 2, True)
    assert PlanRecord.read(folder.plan) == kept, "with what was measured until then"


@pytest.mark.parametrize(("wanted", "micro_batch"), [(None, 4), (2, 2), (4, 4), (8, 4)])
def test_a_run_that_is_resumed_may_be_given_a_smaller_micro_batch_and_no_larger_one(folder, tiny, wanted, micro_batch):
    PlanRecord("demo", "fp32", "none", 4, 0).write(folder.plan)
    folder.checkpoints.mkdir()
    assert plan_run(Settings(per_device_train_batch_size=wanted), folder, CPU, tiny, WORK).micro_batch == micro_batch


def test_a_begun_run_without_its_plan_gets_a_new_one_and_a_damaged_one_is_told(folder, tiny):
    folder.checkpoints.mkdir()
    assert plan_run(Settings(), folder, CPU, tiny, WORK).micro_batch == 8
    folder.plan.write_text("{")
    with pytest.raises(DataError, match=r"plan.json is damaged"):
        plan_run(Settings(), folder, CPU, tiny, WORK)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, TrainingPlan("fp32", "none", 8, 0, True)),
        ({"effective_batch_size": 6, "per_device_train_batch_size": 2}, TrainingPlan("fp32", "none", 2, 0, True)),
        ({"precision": "bf16", "quantization": "nf4"}, TrainingPlan("bf16", "nf4", 8, 0, True)),
        ({"gradient_checkpointing": "true", "padding_free": "false"}, TrainingPlan("fp32", "none", 8, 4, False)),
    ],
)
def test_the_plan_of_a_cpu_is_what_was_asked_for(tiny, asked, expected):
    record = plan_for_machine(Settings(**asked), CPU, tiny, WORK)
    assert record.training_plan == expected
    assert (record.model_id, record.gpu, record.predicted_hours) == ("demo", None, None)


def test_the_plan_of_a_gpu_is_told_in_full(caplog):
    caplog.set_level("INFO")
    record = plan_for_machine(Settings(model_id="google/flan-t5-base"), V100, flan("base"), WORK)
    assert (record.precision, record.quantization, record.fits, record.gpu_kind) == ("fp16", "none", True, "V100-16GB")
    assert (record.gpu_memory_gib, record.speed_factor) == (pytest.approx(15.77, abs=0.01), 1)
    low, high = record.predicted_hours
    middle = WORK.row_passes / record.predicted_examples_per_s / 3600
    assert (low, high) == pytest.approx((0.7 * middle, 2 * middle), abs=0.002)
    assert record.predicted_usd == pytest.approx([hours * record.price_usd_per_hour for hours in (low, high)], abs=0.01)
    assert f"micro-batch {record.micro_batch} x {8 // record.micro_batch}, {record.predicted_peak_gib:.1f} of 15.8" in caplog.text


@pytest.mark.parametrize(("asked", "planned"), [("auto", True), ("true", True), ("false", False)])
def test_packed_rows_are_planned_for_every_model_unless_a_person_wants_padding(tiny, asked, planned):
    """Whether they are what padded ones are is measured before training."""
    assert plan_for_machine(Settings(padding_free=asked), CPU, tiny, WORK).padding_free is planned


def test_a_run_on_a_card_that_is_too_small_ends_with_72_and_what_would_fit():
    hardware = Hardware("cuda", "tiny card", 6 * GIB, (8, 6))
    with pytest.raises(OutOfMemory, match=r"It would fit V100-16GB \(nf4\), .*MAX_SOURCE_LENGTH") as raised:
        plan_for_machine(Settings(model_id="google/flan-t5-xxl"), hardware, flan("xxl"), WORK)
    assert raised.value.exit_code == 72


def test_what_fits_no_card_at_all_is_told_so():
    long = replace(WORK, longest=(200_000, 56))
    with pytest.raises(OutOfMemory, match="It fits no GPU of the catalogue"):
        plan_for_machine(Settings(model_id="google/flan-t5-xxl"), V100, flan("xxl"), long)


@pytest.mark.parametrize(("gib", "rows"), [(8, 8), (16, 32), (24, 64), (80, 256)])
def test_as_many_rows_are_answered_at_once_as_fit_the_gpu(gib, rows):
    """FLAN-T5 XL in bf16, 512 tokens in and 100 out, by hand: weights 5.7 GB; a row takes 2 x 2 x 2048 x 24 x 612 = 120 MB of keys
    and values and 512 x 63,488 = 33 MB in a block, 153 MB in all: 32 rows 10.6 GB, 64 15.5 GB, 128 25.3 GB, 256 44.9 GB."""
    hardware = Hardware("cuda", "a GPU", gib * GIB, (8, 0))
    assert choose_eval_batch_size(Settings(), hardware, flan("xl"), ("bf16", "none"), (512, 100)) == rows


def test_rows_at_once_are_as_set_and_few_on_a_cpu():
    config, form = flan("xl"), ("fp32", "none")
    cpu, gpu = Hardware("cpu", "CPU", 8 * GIB), Hardware("cuda", "a GPU", 80 * GIB, (8, 0))
    assert choose_eval_batch_size(Settings(), cpu, config, form, (512, 100)) == 32
    assert choose_eval_batch_size(Settings(per_device_eval_batch_size=3), gpu, config, form, (512, 100)) == 3


def test_weights_that_take_less_leave_room_for_more_rows():
    """As above, with 7 % and 0.5 GB on top: beside 5.7 GB of bfloat16 32 rows take 11.8 GB and 64 17.1, beside 1.7 GB of NF4 64
    take 12.7 GB; 13 GiB are 14 GB, of which 13.4 may be used."""
    hardware = Hardware("cuda", "a GPU", 13 * GIB, (8, 0))
    found = [choose_eval_batch_size(Settings(), hardware, flan("xl"), ("bf16", kind), (512, 100)) for kind in ("none", "nf4")]
    assert found == [32, 64]


def test_this_machines_gpu_has_the_speed_that_an_earlier_run_of_the_model_measured():
    leave_plan("mine", "V100-16GB", 0.5)
    assert gpu_of(Settings(model_id="google/flan-t5-xl"), V100).speed == 0.5
    assert gpu_of(Settings(model_id="google/flan-t5-base"), V100).speed is None
    assert gpu_of(Settings(model_id="google/flan-t5-xl"), A100).speed is None


def test_of_several_runs_the_newest_counts_and_damaged_ones_are_skipped():
    leave_plan("a_newest", "V100-16GB", 0.9)
    leave_plan("b_older", "V100-16GB", 0.5, age_s=100)
    leave_plan("c_other_model", "V100-16GB", 0.1, model_id="demo")
    leave_plan("d_never_trained", "V100-16GB", None)
    leave_plan("e_on_a_cpu", None, 0.3)
    leave_plan("f_of_tomorrow", "T4", 0.2).write_text(json.dumps({"format": FORMAT + 1}))
    for name, content in (("g_torn", '{"model_id": "goo'), ("h_empty", ""), ("i_a_list", "[]"), ("j_other", '{"a": 1}')):
        leave_plan(name, "T4", 0.2).write_text(content)
    (Path("output") / "k_a_folder" / "plan.json").mkdir(parents=True)
    cards = [CARDS["V100-16GB"], CARDS["T4"]]
    found = with_measured_speeds(Settings(model_id="google/flan-t5-xl"), cards)
    assert [card.speed for card in found] == [0.9, None]
    assert [replace(card, speed=None) for card in found] == cards


def test_a_measured_speed_is_what_the_next_plan_is_made_with():
    settings = Settings(model_id="google/flan-t5-base")
    before = plan_for_machine(settings, V100, flan("base"), WORK)
    leave_plan("mine", "V100-16GB", 0.5, model_id="google/flan-t5-base")
    after = plan_for_machine(settings, V100, flan("base"), WORK)
    assert after.predicted_examples_per_s == pytest.approx(before.predicted_examples_per_s / 2, rel=0.01)
    assert (before.speed_factor, after.speed_factor) == (1, 0.5)


def test_what_was_asked_for_is_no_longer_open():
    asked = Settings(quantization="nf4", precision="bf16", gradient_checkpointing="true", per_device_train_batch_size=2)
    assert constraints(asked) == PlanConstraints("nf4", "bf16", True, 2)
    assert constraints(Settings(gradient_checkpointing="false")) == PlanConstraints("auto", "auto", False, None)
    assert constraints(Settings()) == PlanConstraints()
    assert constraints(asked, CARDS["V100-16GB"]).precision == "auto", "a V100 has no bfloat16"
    assert constraints(asked, CARDS["A100-40GB"]).precision == "bf16"


def test_a_plan_fills_what_is_free_and_speed_and_price_are_those_of_the_card():
    """FLAN-T5 XL in bf16 takes 5.7 GB of weights: of 39.5 GiB 34 are taken, so that NF4 has to do."""
    busy = replace(A100, taken_bytes=34 * GIB)
    gpus = [gpu_of(Settings(), hardware) for hardware in (A100, busy)]
    assert [gpu.memory_gib for gpu in gpus] == pytest.approx([39.5, 5.5], abs=0.01)
    assert gpus[0].kind == gpus[1].kind == "A100-40GB"
    plans = [plan_for_machine(Settings(model_id="google/flan-t5-xl"), one, flan("xl"), WORK).quantization for one in (A100, busy)]
    assert plans == ["none", "nf4"]
    rows = [choose_eval_batch_size(Settings(), one, flan("xl"), ("bf16", "none"), (512, 100)) for one in (A100, busy)]
    assert rows[0] > rows[1]


@pytest.mark.parametrize(
    ("hardware", "asked", "reason"),
    [
        (A100, {"precision": "fp16"}, "fp16, as asked for"),
        (A100, {"quantization": "nf4"}, "bf16; nf4, as asked for"),
        (A100, {"quantization": "int8", "precision": "fp16", "device": "auto"}, "fp16, as asked for; int8, as asked for"),
        (V100, {"precision": "auto"}, "fp16, as capability 7.0 has no bf16"),
    ],
)
def test_what_a_person_asked_for_is_no_fault_of_the_card(hardware, asked, reason):
    assert plan_for_machine(Settings(model_id="google/flan-t5-base", **asked), hardware, flan("base"), WORK).reason == reason


def test_where_a_plan_does_not_fit_blocks_are_recomputed_first_and_nf4_comes_last(t5_folder):
    base, plan, full = BaseModel(str(t5_folder)), TrainingPlan("bf16", "none", 8, 1), OutOfMemory("one row does not fit")
    recomputed = smaller_plan(Settings(), base, plan, False, full)
    assert recomputed == replace(plan, checkpointed_blocks=4)
    quantised = smaller_plan(Settings(), base, recomputed, False, full)
    assert quantised == replace(recomputed, quantization="nf4")
    for settings, tried, is_begun in [
        (Settings(), quantised, False),
        (Settings(), recomputed, True),
        (Settings(quantization="none"), recomputed, False),
        (Settings(gradient_checkpointing="false", quantization="none"), plan, False),
        (Settings(), replace(recomputed, shards=2), False),
    ]:
        with pytest.raises(OutOfMemory, match="one row does not fit"):
            smaller_plan(settings, base, tried, is_begun, full)
