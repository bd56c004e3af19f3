"""What goes wrong around a run: damaged checkpoints, stop signals, full disks, other content, two writers, a clock."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from job.pipeline import status as status_module
from job.system.signals import stop_signals
from job.training.checkpoints import MANIFEST, newest_whole
from job.training.supervision import Supervision, Supervisor

ROOT = Path(__file__).parents[2]
TMPFS_BYTES = 96 * 2**20


@pytest.fixture
def variables(t5_folder, write_rows, questions) -> dict:
    """Of a run of eight steps with a checkpoint after every second."""
    return {
        "MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "MAX_STEPS": 8, "LOGGING_STEPS": 1,
        "EVAL_STRATEGY": "no", "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2, "MAX_NEW_TOKENS": 4, "METRICS": "exact_match",
        "PREPROCESSING_NUM_WORKERS": 1,
    }  # fmt: skip


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable], None]:
    """Does something at the end of a step of the next training."""

    def arrange(step: int, action: Callable) -> None:
        usual = Supervisor.on_step_end

        def on_step_end(self, args, state, control, **rest):
            if state.global_step == step:
                action(**rest)
            usual(self, args, state, control, **rest)

        monkeypatch.setattr(Supervisor, "on_step_end", on_step_end)

    return arrange


@pytest.fixture
def begun(run_job, variables, at_step, monkeypatch) -> dict:
    """The variables of a run that a signal has stopped after step 3."""
    with monkeypatch.context():
        at_step(3, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
        code, said = run_job(**variables)
    assert code == 143, said
    stop_signals.received = None
    monkeypatch.undo()
    monkeypatch.chdir(Path(variables["TRAIN_DATA"]).parent)
    monkeypatch.setenv("DEVICE", "cpu")
    return variables


def adapter() -> bytes:
    return Path("output/r/adapter/adapter_model.safetensors").read_bytes()


def status() -> dict:
    return json.loads(Path("output/r/status.json").read_text())


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros at the same size": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "tail of zeros": lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "swapped with the older one's": lambda path: path.write_bytes((path.parents[1] / "checkpoint-2" / path.name).read_bytes()),
}


def test_a_damaged_checkpoint_is_never_resumed_from(begun, tmp_path, count):
    """Each file of the newest one, damaged in each way: the one before it is taken, and the damaged one is set aside by name."""
    checkpoints = Path("output/r/checkpoints")
    names = sorted(path.name for path in (checkpoints / "checkpoint-3").iterdir())
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", MANIFEST} <= set(
        names
    )
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


def test_a_run_whose_checkpoints_are_all_damaged_begins_anew_with_the_same_result(begun, run_job):
    for path in Path("output/r/checkpoints").glob("*/adapter_model.safetensors"):
        DAMAGES["tail of zeros"](path)
    code, said = run_job(**begun)
    assert code == 0, said
    assert said.count("is incomplete") == 2
    resumed = adapter()
    assert run_job(**begun | {"OVERWRITE": "true"})[0] == 0
    assert adapter() == resumed


def test_a_stop_leaves_a_sealed_checkpoint_and_nothing_that_looks_final(begun):
    assert newest_whole(Path("output/r/checkpoints")).name == "checkpoint-3"
    assert not Path("output/r/adapter").exists()
    told = status()
    assert (told["state"], told["exit_code"], told["retryable"], told["step"]) == ("failed", 143, True, 3)
    assert (told["last_checkpoint"], told["total_steps"], told["percent"]) == (3, 8, 37.5)
    assert told["error"] == "stopped by SIGTERM. Run the same command again to resume."
    assert told["fix"] == "Run the same command again to resume."


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"LORA_ALPHA": 64}, "LORA_ALPHA was 32 and is 64"),
        ({"LORA_R": 4}, "LORA_R was 16 and is 4"),
        ({"PROMPT_TEMPLATE": "Say {input}"}, "PROMPT_TEMPLATE was"),
        ({"MAX_STEPS": 6}, "MAX_STEPS was 8 and is 6"),
    ],
)
def test_other_settings_are_refused(begun, run_job, changes, named):
    code, said = run_job(**begun | changes)
    assert code == 78, said
    assert named in said.splitlines()[-1]


def test_other_rows_are_refused(begun, run_job):
    path = Path(begun["TRAIN_DATA"])
    path.write_text(path.read_text().replace("the 7 of May", "the 8 of May"))
    code, said = run_job(**begun)
    assert code == 78, said
    assert "the rows, or how they are read, changed since this run was begun" in said


def test_another_base_model_at_the_same_path_is_refused(begun, run_job, t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    code, said = run_job(**begun | {"MODEL_ID": tmp_path / "base"})
    assert code == 78, "another path is another setting"
    assert "MODEL_ID was" in said
    shutil.rmtree("output")
    begun["MODEL_ID"] = tmp_path / "base"
    assert run_job(**begun | {"MAX_STEPS": 2})[0] == 0
    shutil.rmtree("output/r/adapter")
    Path("output/r/status.json").unlink()
    DAMAGES["tail of zeros"](weights)
    code, said = run_job(**begun | {"MAX_STEPS": 2})
    assert code == 78, said
    assert "begun with other content: the base model changed since" in said


def test_what_does_not_change_the_result_may_change(begun, run_job):
    assert json.loads(Path("output/r/plan.json").read_text())["micro_batch"] == 8
    code, said = run_job(**begun | {"LOGGING_STEPS": 2, "LOG_LEVEL": "debug", "SAVE_STEPS": 4, "PER_DEVICE_TRAIN_BATCH_SIZE": 2})
    assert code == 0, said
    assert "resuming from output/r/checkpoints/checkpoint-3" in said
    assert json.loads(Path("output/r/plan.json").read_text())["micro_batch"] == 2
    history = json.loads(Path("output/r/history.json").read_text())
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 6, 8]


def test_more_epochs_are_allowed_and_told(run_job, variables, at_step, monkeypatch):
    epochs = {name: value for name, value in variables.items() if name != "MAX_STEPS"} | {"NUM_TRAIN_EPOCHS": 2}
    at_step(3, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
    assert run_job(**epochs)[0] == 143
    stop_signals.received = None
    monkeypatch.setattr(Supervisor, "on_step_end", lambda *_, **__: None)
    code, said = run_job(**epochs | {"NUM_TRAIN_EPOCHS": 3})
    assert code == 0, said
    assert "NUM_TRAIN_EPOCHS was 2 and is 3: the run trains to the new end" in said


def test_a_stop_during_an_evaluation_is_obeyed_and_the_evaluation_is_made_again(run_job, variables, monkeypatch):
    measured = variables | {"EVAL_STRATEGY": "steps", "EVAL_STEPS": 3}
    assert run_job(**measured | {"RUN_NAME": "untouched"})[0] == 0
    usual = Supervisor.on_prediction_step
    with monkeypatch.context() as patch:

        def stop(self, args, state, control, **rest):
            stop_signals.received = "SIGTERM"
            usual(self, args, state, control, **rest)

        patch.setattr(Supervisor, "on_prediction_step", stop)
        assert run_job(**measured)[0] == 143
    stop_signals.received = None
    assert newest_whole(Path("output/r/checkpoints")).name == "checkpoint-3"
    assert run_job(**measured)[0] == 0

    def losses(name: str) -> list:
        history = json.loads(Path(f"output/{name}/history.json").read_text())
        return [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]

    assert losses("r") == losses("untouched")
    assert [step for step, _ in losses("r")] == [3, 6, 8]
    assert adapter() == Path("output/untouched/adapter/adapter_model.safetensors").read_bytes()


def test_one_writer_a_folder_and_a_dead_one_holds_nothing(run_job, variables):
    Path("output/r").mkdir(parents=True)
    code = (
        "import sys, time, pathlib; from job.system.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('go', flush=True); "
    )
    command = [sys.executable, "-c", f"{code}time.sleep(60)", str(Path("output/r").resolve())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "go\n"
        found, said = run_job(**variables)
        assert found == 73
        assert f"in use by process {holder.pid} on {os.uname().nodename} since 20" in said
        assert "choose another RUN_NAME" in said
        holder.kill()
    assert run_job(**variables | {"MAX_STEPS": 1})[0] == 0


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


def test_a_disk_that_fills_while_saving_is_74_and_leaves_the_earlier_checkpoint(
    run_job, variables, at_step, small_disk, monkeypatch
):
    assert run_job(**variables)[0] == 0
    preserved_state, filler = adapter(), small_disk / "filler"

    def fill(**_) -> None:
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                pass

    at_step(3, fill)
    small = variables | {"OUTPUT_DIR": small_disk / "output"}
    code, said = run_job(**small)
    assert code == 74, said
    message = said.splitlines()[-1]
    assert "OUTPUT_DIR: no space left for" in message
    assert "checkpoint-2 is whole" in message
    assert newest_whole(small_disk / "output" / "r" / "checkpoints").name == "checkpoint-2"
    filler.unlink()
    monkeypatch.setattr(Supervisor, "on_step_end", lambda *_, **__: None)
    assert run_job(**small)[0] == 0
    assert (small_disk / "output" / "r" / "adapter" / "adapter_model.safetensors").read_bytes() == preserved_state


def test_a_disk_that_is_too_small_is_told_before_training(run_job, variables, small_disk):
    (small_disk / "filler").write_bytes(bytes(TMPFS_BYTES // 2))
    code, said = run_job(**variables | {"OUTPUT_DIR": small_disk / "output"})
    assert code == 74
    assert "this run will write about" in said.splitlines()[-1]
    assert not (small_disk / "output" / "r" / "checkpoints").exists()


def test_max_hours_ends_the_training_but_not_the_run(run_job, variables):
    code, said = run_job(**variables | {"MAX_HOURS": 0.0001})
    assert code == 0, said
    assert "MAX_HOURS: training ends at step 1 of 8; what was learned is kept" in said
    assert status()["state"] == "done"
    assert json.loads(Path("output/r/adapter/job.json").read_text())["steps"] == 1


def test_a_checkpoint_is_due_by_the_clock(run_job, variables):
    del variables["SAVE_STEPS"]
    never_saves = variables | {"SAVE_STRATEGY": "no", "MAX_STEPS": 4}
    kept = []
    usual = Supervisor.saved

    def saved(self, state):
        kept.append(state.global_step)
        usual(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervisor, "saved", saved)
        assert run_job(**never_saves)[0] == 0
        assert kept == []
        assert run_job(**never_saves | {"RUN_NAME": "timed", "CHECKPOINT_MINUTES": 1e-9})[0] == 0
    assert kept == [1, 2, 3, 4]


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


def test_kubernetes_reads_how_it_ended(run_job, variables, tmp_path, monkeypatch):
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(status_module, "TERMINATION_LOG", log)
    assert run_job(**variables | {"MAX_STEPS": 1})[0] == 0
    assert json.loads(log.read_text())["state"] == "done"
    assert run_job(**variables | {"RUN_NAME": "x", "INPUT_COLUMN": "ü" * 5000})[0] == 65
    assert len(log.read_bytes()) <= 4096
    assert json.loads(log.read_text())["exit_code"] == 65


def test_others_of_this_person_can_read_everything(run_job, variables):
    umask = os.umask(0o022)
    try:
        assert run_job(**variables)[0] == 0
    finally:
        os.umask(umask)
    unreadable = [path for path in Path("output/r").rglob("*") if path.is_file() and not path.stat().st_mode & 0o004]
    assert unreadable == []


def test_an_evaluation_shows_signs_of_life(run_job, variables, monkeypatch):
    seen = []
    usual = status_module.write_status

    def write_status(folder, status):
        seen.append(status)
        usual(folder, status)

    monkeypatch.setattr(status_module, "write_status", write_status)
    monkeypatch.setattr(status_module, "HEARTBEAT_EVERY_S", 0)
    assert run_job(**variables | {"MAX_STEPS": 1, "PER_DEVICE_EVAL_BATCH_SIZE": 4})[0] == 0
    rows = [(status.computing, status.rows, status.total_rows) for status in seen if status.computing]
    assert rows == [("generate", 4, 8), ("generate", 8, 8)] * 2
    assert all(status.stage == "evaluate" for status in seen if status.computing)


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
