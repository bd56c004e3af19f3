"""What goes wrong around a run: damaged checkpoints, stop signals, full disks, other content, two writers, a clock."""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from job.system.seal import MANIFEST
from job.system.signals import stop_signals
from job.training.checkpoints import newest_whole
from job.training.loop import Training
from job.training.supervision import Supervision
from tests.conftest import do_after_step
from tests.faults.conftest import status, weights

pytestmark = pytest.mark.slow

TMPFS_BYTES = 96 * 2**20


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable], None]:
    """Does something at the end of a step of the next training."""
    return partial(do_after_step, monkeypatch)


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros at the same size": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "tail of zeros": lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "swapped with the older one's": lambda path: path.write_bytes((path.parents[1] / "checkpoint-2" / path.name).read_bytes()),
}


def test_a_damaged_checkpoint_is_never_resumed_from(stopped_run, tmp_path, count):
    """Each file of the newest one, damaged in each way: the one before it is taken, and the damaged one is set aside by name."""
    checkpoints = Path("output/r/checkpoints")
    names = sorted(path.name for path in (checkpoints / "checkpoint-3").iterdir())
    assert names == sorted(["adapter.safetensors", "optimizer.safetensors", "progress.json", MANIFEST])
    tried = 0
    for name in names:
        for damage, do in DAMAGES.items():
            copy = tmp_path / "copy"
            shutil.copytree(checkpoints, copy)
            before = (copy / "checkpoint-3" / name).read_bytes()
            do(copy / "checkpoint-3" / name)
            after = copy / "checkpoint-3" / name
            if not after.exists() or after.read_bytes() != before:
                assert newest_whole(copy) == copy / "checkpoint-2", f"{name} {damage}"
                assert (copy / "torn-checkpoint-3").is_dir()
                tried += 1
            shutil.rmtree(copy)
    (checkpoints / "checkpoint-3" / "added").touch()
    assert newest_whole(checkpoints) == checkpoints / "checkpoint-2"
    assert tried >= 5 * len(names) - 3
    count("damaged checkpoints, never resumed from", tried + 1)


@pytest.mark.parametrize("run", ["stopped_run", "finished_run"])
def test_no_file_of_a_run_is_a_pickle(run, request):
    _, folder = request.getfixturevalue(run)
    files = [path for path in [*folder.rglob("*"), *Path("logs").rglob("*")] if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert not zipfile.is_zipfile(path), f"{path}: torch.save writes such files"
        assert content[:1] != b"\x80", f"{path}: so a pickle begins"


def test_a_run_whose_checkpoints_are_all_damaged_begins_anew_with_the_same_result(stopped_run, run_job):
    for path in Path("output/r/checkpoints").glob("*/adapter.safetensors"):
        DAMAGES["tail of zeros"](path)
    variables, _ = stopped_run
    code, said = run_job(**variables)
    assert code == 0, said
    assert said.count("is incomplete, as after a kill while it was written") == 2
    resumed = weights()
    assert run_job(**variables | {"OVERWRITE": "true"})[0] == 0
    assert weights() == resumed


def test_a_stop_leaves_a_sealed_checkpoint_and_nothing_that_looks_final(stopped_run):
    assert newest_whole(Path("output/r/checkpoints")).name == "checkpoint-3"
    assert not Path("output/r/adapter").exists()
    told = status()
    assert (told["state"], told["exit_code"], told["retryable"], told["step"]) == ("failed", 143, True, 3)
    assert (told["last_checkpoint"], told["total_steps"], told["percent"]) == (3, 8, 37.5)
    assert told["error"] == "stopped by SIGTERM. Run the same command again to resume."
    assert told["fix"] == "Run the same command again to resume."


def test_a_stop_during_an_evaluation_is_obeyed_and_the_evaluation_is_made_again(run_job, variables, monkeypatch):
    measured = variables | {"EVAL_STRATEGY": "steps", "EVAL_STEPS": 3}
    assert run_job(**measured | {"RUN_NAME": "untouched"})[0] == 0
    usual = Training._heartbeat
    with monkeypatch.context() as patch:

        def stop(self):
            stop_signals.received = "SIGTERM"
            usual(self)

        patch.setattr(Training, "_heartbeat", stop)
        assert run_job(**measured)[0] == 143
    stop_signals.received = None
    assert newest_whole(Path("output/r/checkpoints")).name == "checkpoint-3"
    assert run_job(**measured)[0] == 0

    def losses(name: str) -> list:
        history = json.loads(Path(f"output/{name}/history.json").read_text())
        return [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]

    assert losses("r") == losses("untouched")
    assert [step for step, _ in losses("r")] == [3, 6, 8]
    assert weights() == Path("output/untouched/adapter/adapter_model.safetensors").read_bytes()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of TMPFS_BYTES."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0 and not os.environ.get("CI"):
        pytest.skip("only root can mount a small disk")
    assert mounted.returncode == 0, mounted.stderr
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_fills_while_saving_is_74_and_leaves_the_earlier_checkpoint(run_job, variables, small_disk, monkeypatch):
    assert run_job(**variables)[0] == 0
    untouched, filler = weights(), small_disk / "filler"

    def fill(**_) -> None:
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                pass

    small = variables | {"OUTPUT_DIR": small_disk / "output"}
    with monkeypatch.context() as patch:
        do_after_step(patch, 3, fill)
        code, said = run_job(**small)
    assert code == 74, said
    message = said.splitlines()[-1]
    assert "OUTPUT_DIR: no space left for" in message
    assert "checkpoint-2 is complete" in message
    assert newest_whole(small_disk / "output" / "r" / "checkpoints").name == "checkpoint-2"
    told = json.loads((small_disk / "output" / "r" / "status.json").read_text())
    assert (told["state"], told["exit_code"], told["retryable"]) == ("failed", 74, False)
    filler.unlink()
    assert run_job(**small)[0] == 0
    assert (small_disk / "output" / "r" / "adapter" / "adapter_model.safetensors").read_bytes() == untouched


def test_a_disk_that_is_too_small_is_told_before_training(run_job, variables, small_disk):
    (small_disk / "filler").write_bytes(bytes(TMPFS_BYTES // 2))
    code, said = run_job(**variables | {"OUTPUT_DIR": small_disk / "output"})
    assert code == 74
    assert "this run will write about" in said.splitlines()[-1]
    assert not (small_disk / "output" / "r" / "checkpoints").exists()


def test_weights_that_blow_up_end_the_run_and_the_last_finite_checkpoint_is_named(run_job, variables, at_step):
    def blow_up(model, **_) -> None:
        with torch.no_grad():
            next(parameter for parameter in model.parameters() if parameter.requires_grad).fill_(float("inf"))

    at_step(4, blow_up)
    code, said = run_job(**variables)
    assert code == 76, said
    assert "The last finite checkpoint is output/r/checkpoints/checkpoint-2." in said.splitlines()[-1]
    assert "lower LEARNING_RATE" in said.splitlines()[-1]
    assert not Path("output/r/adapter").exists()


def test_the_grace_period_is_compared_with_a_step_and_a_save(run_job, variables):
    code, said = run_job(**variables | {"GRACE_S": 1e-6})
    assert code == 0
    assert said.count("after a sudden stop the run resumes from the last checkpoint") == 1
    assert Supervision().grace_s == 30


@pytest.mark.parametrize("evaluation", ["no", "epoch", "steps"])
def test_a_run_that_was_killed_after_its_last_step_takes_no_further_one(run_job, t5_folder, write_rows, questions, evaluation):
    """Six steps, of four an epoch: the last one is in the middle of an epoch."""
    variables = {
        "MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "MAX_STEPS": 6, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 3,
        "LR_SCHEDULER_TYPE": "constant", "EVAL_STRATEGY": evaluation, "RUN_NAME": "r", "MAX_NEW_TOKENS": 4,
        "METRICS": "exact_match", "LOGGING_STEPS": 1,
    } | ({"EVAL_STEPS": 3} if evaluation == "steps" else {})  # fmt: skip
    assert run_job("train", **variables)[0] == 0
    folder = Path("output/r")

    def outcome() -> tuple:
        history = [
            {name: value for name, value in entry.items() if name in ("step", "loss", "eval_loss")}
            for entry in json.loads((folder / "history.json").read_text())
        ]
        return (folder / "adapter" / "adapter_model.safetensors").read_bytes(), read_steps(), history

    def read_steps() -> int:
        return json.loads((folder / "adapter" / "job.json").read_text())["steps"]

    expected = outcome()
    assert expected[1] == 6
    shutil.rmtree(folder / "adapter")
    code, said = run_job("train", **variables)
    assert code == 0, said
    assert outcome() == expected
