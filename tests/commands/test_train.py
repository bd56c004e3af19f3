"""The command `train`: an adapter and no more, unless there is one."""

import json
import shutil
from pathlib import Path

import pytest

from job.commands import train as module

FEW_STEPS = {"MAX_STEPS": 4, "LOGGING_STEPS": 1, "EVAL_STRATEGY": "no", "SAVE_STRATEGY": "no", "RUN_NAME": "r", "MAX_NEW_TOKENS": 8}


def test_a_checkpoint_is_resumed_from(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | FEW_STEPS
    whole = variables | {"SAVE_STRATEGY": "steps", "SAVE_STEPS": 2, "RUN_NAME": "whole"}
    assert run_job("train", **whole)[0] == 0
    shutil.rmtree("output/whole/checkpoints/checkpoint-4")
    adapter = Path("output/whole/adapter")
    before = (adapter / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(adapter)
    code, said = run_job("train", **whole)
    assert code == 0
    assert "resuming from" in said
    assert "checkpoint-2" in said
    assert (adapter / "adapter_model.safetensors").read_bytes() == before


def test_it_leaves_an_adapter_and_no_evaluation(run_job, t5_folder, write_rows, questions):
    code, said = run_job("train", MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), **FEW_STEPS)
    assert code == 0, said
    left = {path.name for path in Path("output/r").iterdir()}
    assert left == {
        ".lock", "adapter", "data", "data.html", "history.json", "plan.json", "settings.json", "status.json",
    }  # fmt: skip
    assert "adapter: output/r/adapter" in said
    assert json.loads(Path("output/r/status.json").read_text())["state"] != "done"


def test_a_run_after_it_evaluates_as_a_run_alone_would_have(run_job, t5_folder, write_rows, questions, pristine_run):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | FEW_STEPS
    assert run_job("train", **variables)[0] == 0
    assert run_job(**variables)[0] == 0
    alone = pristine_run[1] / "output" / "r"
    for name in ("evaluation.csv", "adapter/adapter_model.safetensors"):
        assert (Path("output/r") / name).read_bytes() == (alone / name).read_bytes()


def test_an_adapter_that_is_there_is_not_trained_again(finished_run, run_job, monkeypatch):
    variables, folder = finished_run
    monkeypatch.setattr(module, "prepare_run", lambda *_: pytest.fail("the data was read"))
    monkeypatch.setattr(module.step, "train", lambda *_: pytest.fail("it was trained"))
    code, said = run_job("train", **variables)
    assert code == 0, said
    assert "adapter: output/r/adapter" in said
    assert json.loads((folder / "status.json").read_text())["state"] == "done", "the run stays finished"


def test_an_adapter_that_is_there_is_trained_again_where_that_is_asked_for(finished_run, run_job):
    variables, folder = finished_run
    assert run_job("train", **variables | {"OVERWRITE": "true", "SEED": 7})[0] == 0
    assert not (folder / "evaluation.csv").exists()
    assert json.loads((folder / "settings.json").read_text())["settings"]["seed"] == 7
