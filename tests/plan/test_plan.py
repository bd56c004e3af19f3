"""Plans: what is predicted against what is counted, and what is chosen for whom."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from job.commands.plan import _simulated
from job.config.settings import Settings
from job.errors import OutOfMemory
from job.pipeline.plan import choose_eval_batch_size, plan_for_machine
from job.pipeline.records import PlanRecord
from job.pipeline.workload import assume_workload
from job.plan.choose import PlanConstraints, Workload, choose
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, read_catalogue
from job.plan.memory import peak_bytes
from job.plan.model_catalogue import known_config
from job.system.hardware import GIB, Hardware

WORK = Workload(longest=(256, 56), mean=(150, 30), row_passes=5000, effective_batch_size=8)
CARDS = read_catalogue()


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


def test_a_run_on_a_card_that_is_too_small_ends_with_72_and_what_would_fit():
    hardware = Hardware("cuda", "tiny card", 6 * GIB, (8, 6))
    with pytest.raises(OutOfMemory, match=r"It would fit V100-16GB \(nf4\), .*MAX_SOURCE_LENGTH") as raised:
        plan_for_machine(Settings(model_id="google/flan-t5-xxl"), hardware, flan("xxl"), WORK)
    assert raised.value.exit_code == 72


def test_the_command_prints_a_row_a_gpu_without_a_network(run_job, capsys):
    assert run_job("plan", MODEL_ID="google/flan-t5-xl")[0] == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in CARDS}
    assert rows.keys() == CARDS.keys()
    assert "fp16" in rows["V100-16GB"]
    assert "inputs 150/220/256 tokens" in lines[1]


def test_the_command_measures_the_lengths_of_the_data_and_leaves_nothing_behind(
    run_job, capsys, t5_folder, write_rows, questions, tmp_path
):
    before = sorted(path.name for path in tmp_path.iterdir())
    data = write_rows(questions)
    assert run_job("plan", "--json", MODEL_ID=t5_folder, TRAIN_DATA=data, PLAN_GPU="T4", NUM_TRAIN_EPOCHS="2")[0] == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["gpu"], told["fits"], told["micro_batch"]) == ("T4", True, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, data.name])


def test_an_unknown_gpu_and_wrong_lengths_are_answered(run_job):
    code, said = run_job("plan", MODEL_ID="google/flan-t5-xl", PLAN_GPU="V1000")
    assert code == 78
    assert "PLAN_GPU=V1000: not in job/plan/gpus.toml, which has V100-16GB" in said
    code, said = run_job("plan", PLAN_SOURCE_LENGTHS="150")
    assert code == 78
    assert "median/95th percentile/longest in tokens" in said


def test_plan_gpu_is_told_in_full_from_a_simulated_step(run_job, capsys, t5_folder, write_rows, questions):
    assert run_job("plan", MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), PLAN_GPU="V100-16GB")[0] == 0
    told = {line.strip().partition("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "fits" in told["verdict"]
    assert "answering 32 rows at once, after training" in told


@pytest.mark.parametrize(("quantization", "blocks"), [("none", 3), ("nf4", 0)])
def test_the_simulated_choice_agrees_with_the_formula_in_fp16(quantization, blocks):
    estimate = choose(read_dimensions(flan("base")), CARDS["V100-16GB"], WORK, PlanConstraints(quantization))
    estimate = replace(estimate, plan=replace(estimate.plan, checkpointed_blocks=blocks))
    formula = peak_bytes(read_dimensions(flan("base")), estimate.plan, *WORK.longest, 16)
    found, memory = _simulated(Settings(model_id="google/flan-t5-base"), flan("base"), WORK, estimate)
    assert 0.95 < formula / found.peak_bytes < 1.10
    parts = [memory[name] for name in list(memory)[:3]]
    assert sum(parts) == pytest.approx(found.peak_bytes / GIB, abs=0.02)


def test_a_step_that_does_not_fit_when_simulated_is_said_not_to_fit():
    estimate = choose(
        read_dimensions(flan("base")), Gpu("small", 3.4, (8, 6), {"bf16": 50, "fp32": 10}, 0.3), WORK, PlanConstraints()
    )
    assert estimate.fits
    next_smaller_micro_batch = replace(estimate, gpu=replace(estimate.gpu, memory_gib=1.5))
    found, _ = _simulated(Settings(model_id="google/flan-t5-base"), flan("base"), WORK, next_smaller_micro_batch)
    assert not found.fits


def test_the_next_plan_takes_the_speed_that_an_earlier_run_measured(run_job, capsys):
    def rate() -> tuple[float, list[float]]:
        assert run_job("plan", "--json", MODEL_ID="google/flan-t5-xl")[0] == 0
        told = {entry["gpu"]: entry for entry in json.loads(capsys.readouterr().out)}
        assert told["T4"]["speed_factor"] == 1
        return told["V100-16GB"]["predicted_examples_per_s"], told["V100-16GB"]["predicted_hours"]

    before, (low, high) = rate()
    for name, kind, model in (("mine", "V100-16GB", "google/flan-t5-xl"), ("other", "T4", "google/flan-t5-base")):
        folder = Path("output") / name
        folder.mkdir(parents=True)
        PlanRecord(model, "fp16", "none", 8, 0, gpu_kind=kind, measured_speed_factor=0.5).write(folder / "plan.json")
    after, (new_low, new_high) = rate()
    assert after == pytest.approx(before / 2, rel=1e-3)
    assert new_high / new_low < high / low


def test_lengths_that_are_given_mean_what_a_list_of_such_lengths_has():
    """A sample with that median, 95th percentile and longest, evenly in between, and from half the median on."""
    sample = np.concatenate([np.linspace(75, 150, 500), np.linspace(150, 220, 450), np.linspace(220, 256, 50)])
    assert assume_workload(Settings(), seq2seq=True).mean[0] == pytest.approx(sample.mean(), rel=1e-3)


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
