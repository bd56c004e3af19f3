"""The command `plan`: a row a GPU, or one GPU in full from a simulated step, without a network and without a trace."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import T5Config

from job.commands import plan as command
from job.commands.plan import _simulated
from job.config.settings import Settings
from job.pipeline.records import PlanRecord
from job.plan.choose import PlanConstraints, Workload, choose
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, read_catalogue
from job.plan.memory import peak_bytes
from job.plan.model_catalogue import known_config
from job.system.hardware import GIB
from tests.zoo.families import build

WORK = Workload(longest=(256, 56), mean=(150, 30), row_passes=5000, effective_batch_size=8)
CARDS = read_catalogue()


def flan(size: str) -> T5Config:
    return known_config(f"google/flan-t5-{size}")


def test_the_command_prints_a_row_a_gpu_without_a_network(run_job, capsys):
    assert run_job("plan", MODEL_ID="google/flan-t5-xl")[0] == 0
    lines = capsys.readouterr().out.splitlines()
    singles = lines[: next(number for number, line in enumerate(lines) if line.startswith("several GPUs"))]
    rows = {line.split()[0]: line for line in singles if line.split() and line.split()[0] in CARDS}
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


@pytest.mark.slow
@pytest.mark.parametrize(("quantization", "blocks"), [("none", 3), ("nf4", 0)])
def test_the_simulated_choice_agrees_with_the_formula_in_fp16(quantization, blocks):
    estimate = choose(read_dimensions(flan("base")), CARDS["V100-16GB"], WORK, PlanConstraints(quantization))
    estimate = replace(estimate, plan=replace(estimate.plan, checkpointed_blocks=blocks))
    formula = peak_bytes(read_dimensions(flan("base")), estimate.plan, *WORK.longest, 16)
    found, memory = _simulated(Settings(model_id="google/flan-t5-base"), flan("base"), WORK, estimate)
    assert 0.95 < formula / found.peak_bytes < 1.10
    parts = [memory[name] for name in list(memory)[:3]]
    assert sum(parts) == pytest.approx(found.peak_bytes / GIB, abs=0.02)


@pytest.mark.slow
def test_a_step_that_does_not_fit_when_simulated_is_said_not_to_fit():
    estimate = choose(
        read_dimensions(flan("base")), Gpu("small", 3.4, (8, 6), {"bf16": 50, "fp32": 10}, 0.3, 600), WORK, PlanConstraints()
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


def test_the_json_has_the_settings_obeyed_and_hours_and_prices_that_agree(run_job, capsys):
    asked = {"QUANTIZATION": "nf4", "PER_DEVICE_TRAIN_BATCH_SIZE": 2, "GRADIENT_CHECKPOINTING": "true", "PLAN_ROWS": 200_000}
    assert run_job("plan", "--json", MODEL_ID="google/flan-t5-base", NUM_TRAIN_EPOCHS=3, **asked)[0] == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["gpu"] for entry in told] == list(CARDS)
    for entry in told:
        assert (entry["quantization"], entry["micro_batch"], entry["checkpointed_blocks"]) == ("nf4", 2, 24)
        middle = 3 * 200_000 / entry["predicted_examples_per_s"] / 3600
        assert entry["predicted_hours"] == pytest.approx([0.7 * middle, 2 * middle], rel=0.01)
        assert entry["predicted_usd"] == pytest.approx(
            [hours * entry["price_usd_per_hour"] for hours in entry["predicted_hours"]], rel=0.01
        )


def test_a_precision_that_some_gpus_lack_is_planned_where_it_can_be(run_job, capsys):
    assert run_job("plan", "--json", MODEL_ID="google/flan-t5-base", PRECISION="bf16")[0] == 0
    told = {entry["gpu"]: entry["precision"] for entry in json.loads(capsys.readouterr().out)}
    assert (told["V100-16GB"], told["T4"], told["A100-40GB"]) == ("fp16", "fp16", "bf16")


def test_the_memory_that_is_told_for_one_gpu_adds_up(run_job, capsys, t5_folder, write_rows, questions):
    asked = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "PLAN_GPU": "T4"}
    assert run_job("plan", "--json", **asked)[0] == 0
    (told,) = json.loads(capsys.readouterr().out)
    parts = list(told["memory_gib"].values())
    assert sum(parts[:3]) == pytest.approx(told["predicted_peak_gib"], abs=0.02)
    assert told["fits"]


def test_the_demo_is_planned_on_its_own_rows(run_job, capsys):
    """960 training rows of 1200, as `doctor` reads them, five epochs."""
    assert run_job("plan")[0] == 0
    printed = capsys.readouterr().out
    assert printed.startswith("demo: 1 million parameters")
    assert "4,800 rows in all epochs" in printed


def test_the_machines_own_gpu_is_the_last_row(run_job, capsys, monkeypatch):
    from job.commands import plan
    from job.system.hardware import Hardware

    monkeypatch.setattr(plan, "detect", lambda device: Hardware("cuda", "Tesla T4", int(14.7 * GIB), (7, 5)))
    assert run_job("plan", "--json", MODEL_ID="google/flan-t5-base")[0] == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["gpu_kind"] for entry in told] == [*CARDS, "T4"]
    assert told[-1]["gpu_memory_gib"] == pytest.approx(14.7, abs=0.01)


def test_a_model_whose_step_cannot_be_simulated_is_planned_by_the_formula(run_job, capsys, write_rows, questions, tmp_path):
    build("m2m100", tmp_path / "m2m")
    data = write_rows([row | {"output_ground_truth": row["output_ground_truth"][-2:]} for row in questions])  # it has no "-"
    asked = {"MODEL_ID": tmp_path / "m2m", "TRAIN_DATA": data, "SOURCE_LANGUAGE": "en", "TARGET_LANGUAGE": "de"}
    code, said = run_job("plan", **asked, PLAN_GPU="T4")
    assert code == 0, said
    assert "PLAN_GPU: a step of this m2m_100 cannot be simulated" in said
    table = capsys.readouterr().out
    assert "fits" in table
    assert "total by the formula" not in table


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError, TypeError, AttributeError, ValueError])
def test_whatever_a_models_code_stumbles_over_on_fake_tensors_leaves_the_formula(monkeypatch, caplog, kind):
    def stumble(*_: object) -> None:
        raise kind("no values here\nand more")

    monkeypatch.setattr(command, "simulate_training_step", stumble)
    estimate = choose(read_dimensions(flan("base")), CARDS["V100-16GB"], WORK, PlanConstraints())
    assert _simulated(Settings(model_id="google/flan-t5-base"), flan("base"), WORK, estimate) == (estimate, {})
    assert "a step of this t5 cannot be simulated (no values here); its memory is the formula's" in caplog.text


@pytest.mark.parametrize("family", ["mamba", "jamba", "deepseek_v3", "gemma3_with_vision", "bart"])
def test_models_of_other_shapes_are_planned(run_job, capsys, write_rows, questions, tmp_path, family):
    build(family, tmp_path / family)
    code, said = run_job("plan", MODEL_ID=tmp_path / family, TRAIN_DATA=write_rows(questions))
    assert code == 0, said
    told = capsys.readouterr().out
    assert ("memory is an estimate" in told) == (family not in ("gemma3_with_vision", "bart"))
    assert "does not fit" not in told


def test_a_config_that_makes_no_model_is_one_line(run_job, llama_folder, tmp_path, write_rows, questions):
    shutil.copytree(llama_folder, tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"hidden_act": "nothing"}))
    code, said = run_job("plan", MODEL_ID=tmp_path / "odd", TRAIN_DATA=write_rows(questions))
    assert (code, "the config of this llama makes no model that can be planned for" in said) == (78, True), said


def test_several_gpus_of_each_kind_are_compared_and_the_cheapest_in_time_is_told(run_job, capsys):
    """What --json has decides which it is: of all that end in time at their slowest, the least money."""
    asked = {"MODEL_ID": "google/flan-t5-xl", "PLAN_ROWS": 40_000, "EFFECTIVE_BATCH_SIZE": 32, "PLAN_HOURS": 1}
    assert run_job("plan", **asked)[0] == 0
    printed = capsys.readouterr().out
    assert run_job("plan", "--json", **asked)[0] == 0
    told = [fleet | {"gpu": entry["gpu"]} for entry in json.loads(capsys.readouterr().out) for fleet in entry["several"]]
    assert len(told) == 6 * len(CARDS)
    in_time = [one for one in told if one["fits"] and one["predicted_hours"][1] <= 1]
    best = min(in_time, key=lambda one: one["predicted_usd"][1])
    assert best["gpus_each"] > 1
    assert "with an effective batch of 32 (EFFECTIVE_BATCH_SIZE) more than 32 GPUs are idle in part" in printed
    assert "sharded" not in printed
    first = printed.split("cheapest within 1 hours, at their slowest: ")[1].split(", then")[0]
    assert first == f"{best['gpus_each']} {best['gpu']} ({best['predicted_hours'][1]:.2f} h, {best['predicted_usd'][1]:.2f} USD)"


def test_a_deadline_that_nothing_meets_is_told(run_job, capsys):
    assert run_job("plan", MODEL_ID="google/flan-t5-xxl", PLAN_ROWS=1_000_000, PLAN_HOURS=0.01)[0] == 0
    assert "within 0.01 hours: none of these. Allow more with PLAN_HOURS" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_that_one_card_cannot_hold_is_sharded_over_several_of_it(run_job, capsys):
    assert run_job("plan", MODEL_ID="google/flan-t5-xxl", PLAN_GPU="L4", QUANTIZATION="none")[0] == 0
    told = capsys.readouterr().out
    row = told.splitlines()[-1].split("  ")
    assert "QUANTIZATION=nf4 lets each hold it whole" in told
    alone = told.partition("several GPUs")[0]
    assert "does not fit" in alone
    assert [word for word in ("speed", "time", "price") if f"\n{word}" in alone] == []
    assert [cell.strip() for cell in row if cell.strip()][:2] == ["L4", "-"]
    assert row[-1].endswith("sharded")
