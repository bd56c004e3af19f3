"""A run that is begun or finished, and the same command again with something else: what is refused, what is not."""

import json
import shutil
from pathlib import Path

import pytest

from job.system.signals import stop_signals
from tests.conftest import STOPPED, do_after_step


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"LORA_ALPHA": 64}, "LORA_ALPHA was 32 and is 64"),
        ({"LORA_R": 4}, "LORA_R was 16 and is 4"),
        ({"PROMPT_TEMPLATE": "Say {input}"}, "PROMPT_TEMPLATE was"),
        ({"MAX_STEPS": 6}, "MAX_STEPS was 8 and is 6"),
    ],
)
def test_other_settings_are_refused(stopped_run, run_job, changes, named):
    code, said = run_job(**stopped_run[0] | changes)
    assert code == 78, said
    assert named in said.splitlines()[-1]


def test_a_finished_run_is_not_overwritten_by_other_settings(finished_run, run_job):
    variables, folder = finished_run
    before = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    code, said = run_job(**variables | {"LEARNING_RATE": 0.5})
    assert code == 78
    assert "LEARNING_RATE was 0.001 and is 0.5" in said
    assert "OVERWRITE=true" in said
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == before
    code, _ = run_job(**variables | {"LEARNING_RATE": 0.5, "OVERWRITE": "true"})
    assert code == 0
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() != before


def test_another_base_model_at_the_same_path_is_refused(stopped_run, run_job, t5_folder, tmp_path):
    variables, folder = stopped_run
    shutil.copytree(t5_folder, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    moved = variables | {"MODEL_ID": tmp_path / "base", "MAX_STEPS": 2}
    code, said = run_job(**variables | {"MODEL_ID": tmp_path / "base"})
    assert code == 78, "another path is another setting"
    assert "MODEL_ID was" in said
    shutil.rmtree("output")
    assert run_job("train", **moved)[0] == 0
    shutil.rmtree(folder / "adapter")
    (folder / "status.json").unlink()
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    code, said = run_job(**moved)
    assert code == 78, said
    assert "begun with other content: the base model changed since" in said


def test_what_does_not_change_the_result_may_change(stopped_run, run_job):
    variables, folder = stopped_run
    code, said = run_job(
        **variables | {"LOGGING_STEPS": 2, "LOG_LEVEL": "debug", "SAVE_STEPS": 4, "PER_DEVICE_TRAIN_BATCH_SIZE": 2}
    )
    assert code == 0, said
    assert "resuming from output/r/checkpoints/checkpoint-3" in said
    logged = [entry["step"] for entry in json.loads((folder / "history.json").read_text()) if "loss" in entry]
    assert logged == [1, 2, 3, 4, 6, 8], "each step before the stop, each second one after it"
    assert json.loads((folder / "plan.json").read_text())["micro_batch"] == 2


def test_more_epochs_are_allowed_and_told(run_job, t5_folder, write_rows, questions, monkeypatch):
    usual = {name: value for name, value in STOPPED.items() if name != "MAX_STEPS"}
    epochs = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "NUM_TRAIN_EPOCHS": 2} | usual
    with monkeypatch.context() as patch:
        patch.setattr(stop_signals, "received", None)
        do_after_step(patch, 3, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
        assert run_job(**epochs)[0] == 143
    code, said = run_job("train", **epochs | {"NUM_TRAIN_EPOCHS": 3})
    assert code == 0, said
    assert "NUM_TRAIN_EPOCHS was 2 and is 3: the run trains to the new end" in said
    assert json.loads(Path("output/r/adapter/job.json").read_text())["steps"] == 3 * 4
