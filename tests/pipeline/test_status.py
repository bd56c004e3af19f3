"""status.json and Kubernetes' termination log: how far a run is, how it ended, and that writing it never hides the error."""

import errno
import json
from pathlib import Path

import pytest

from job.errors import DataError, DiskFull, Interrupted, Transient
from job.pipeline import status as module
from job.pipeline.records import StatusRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.status import (
    correct_failure,
    end_what_was_killed,
    progress_writer,
    write_failure,
    write_progress,
    write_stage,
    write_status,
)
from job.system.lock import locked


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path, tmp_path)


@pytest.fixture
def termination_log(tmp_path, monkeypatch) -> Path:
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(module, "TERMINATION_LOG", log)
    return log


def read(folder: RunFolder) -> StatusRecord:
    return StatusRecord.read(folder.status)


def test_a_failure_keeps_how_far_the_run_was_and_says_what_to_do(folder):
    write_progress(folder, "train", step=3, total_steps=8, percent=37.5, eta_s=12, loss=0.5, last_checkpoint=2)
    write_failure(folder, DataError("TRAIN_DATA=a.csv: row 3 is empty (3. May). Fill it, or leave it out."))
    told = read(folder)
    assert (told.state, told.stage, told.step, told.total_steps, told.percent) == ("failed", "train", 3, 8, 37.5)
    assert (told.loss, told.last_checkpoint, told.eta_s) == (0.5, 2, None)
    assert told.error == "TRAIN_DATA=a.csv: row 3 is empty (3. May). Fill it, or leave it out."
    assert told.fix == "Fill it, or leave it out."
    assert (told.exit_code, told.retryable) == (65, False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Transient("the hub is slow. Wait."), (138, True, "the hub is slow. Wait.", "Wait.")),
        (Interrupted("stopped by SIGTERM. Run it again."), (143, True, "stopped by SIGTERM. Run it again.", "Run it again.")),
        (KeyError("x"), (70, False, "KeyError: 'x'", "Report it, with the log.")),
    ],
)
def test_a_failure_says_whether_a_retry_helps(folder, error, expected):
    write_failure(folder, error)
    told = read(folder)
    assert (told.exit_code, told.retryable, told.error, told.fix) == expected
    assert told.stage is None


def test_a_later_stage_forgets_the_steps_of_the_one_before(folder):
    write_progress(folder, "train", step=3, loss=0.5)
    write_stage(folder, "evaluate")
    write_failure(folder, DataError("x"))
    assert (read(folder).stage, read(folder).step, read(folder).loss) == ("evaluate", None, None)


def test_a_disk_that_is_full_stops_neither_progress_nor_the_real_error(folder, monkeypatch):
    def full(self, path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StatusRecord, "write", full)
    write_progress(folder, "train", step=3)
    write_failure(folder, DataError("x"))
    with pytest.raises(OSError, match="No space left"):
        write_stage(folder, "train")


def test_the_termination_log_is_written_when_a_run_ends_and_not_before(folder, termination_log):
    write_stage(folder, "train")
    write_progress(folder, "train", step=1)
    assert termination_log.read_text() == ""
    write_failure(folder, DataError("no. Do."))
    told = json.loads(termination_log.read_text())
    assert (told["state"], told["stage"], told["exit_code"], told["fix"]) == ("failed", "train", 65, "Do.")
    write_status(folder, StatusRecord("done", adapter="output/r/adapter"))
    assert json.loads(termination_log.read_text())["adapter"] == "output/r/adapter"


@pytest.mark.parametrize("letter", ["a", "ü", "語", "🙂", '"', "\\"])
@pytest.mark.parametrize("length", [1000, 4096, 50_000])
def test_the_termination_log_is_json_of_at_most_4096_bytes(folder, termination_log, letter, length):
    write_failure(folder, DataError(f"{letter * length}. Do {letter * length}"))
    content = termination_log.read_bytes()
    assert len(content) <= 4096
    told = json.loads(content.decode())
    assert (told["state"], told["exit_code"], told["retryable"]) == ("failed", 65, False)
    assert set(told["error"][:3]) <= {letter}
    assert read(folder).error == f"{letter * length}. Do {letter * length}", "what is on the disk is not cut"


def test_a_name_that_is_not_utf_8_does_not_hide_the_error(folder, termination_log):
    """What the system gives Python for a file of such a name has halves of characters in it."""
    name = b"caf\xe9.csv".decode(errors="surrogateescape")
    write_failure(folder, DataError(f"{name} is empty. Fill it."))
    assert json.loads(termination_log.read_text())["fix"] == "Fill it."
    assert read(folder).exit_code == 65


def test_a_termination_log_that_cannot_be_written_is_no_error(folder, termination_log):
    termination_log.unlink()
    termination_log.mkdir()
    write_failure(folder, DataError("x"))
    assert read(folder).state == "failed"


def test_progress_is_written_every_few_seconds_and_the_first_time_at_once(folder, monkeypatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    write, seen = progress_writer(folder, "evaluate"), []
    for now in (1000.0, 1004.9, 1005.0, 1009.9, 1010.1):
        write("generate", int(now), 2000)
        seen.append(read(folder).rows)
    assert seen == [1000, 1000, 1005, 1005, 1010]
    assert (read(folder).stage, read(folder).computing, read(folder).total_rows) == ("evaluate", "generate", 2000)


def test_without_a_terminal_a_line_tells_the_progress_of_what_takes_long(folder, monkeypatch, caplog):
    caplog.set_level("INFO", "job")
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    write = progress_writer(folder, "evaluate", lambda: {"cost_usd": 0.5})
    for clock[0], done in ((1.0, 10), (10.0, 100), (12.0, 120), (20.0, 200)):
        write("generate", done, 400)
    assert caplog.messages == ["generate: 100 of 400 rows, 0:00:30 left", "generate: 200 of 400 rows, 0:00:20 left"]
    assert (read(folder).eta_s, read(folder).cost_usd) == (20, 0.5)


def test_kubernetes_reads_how_it_ended(run_job, t5_folder, write_rows, questions, termination_log):
    variables = {
        "MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "MAX_STEPS": 1, "EVAL_STRATEGY": "no",
        "MAX_NEW_TOKENS": 4, "METRICS": "exact_match",
    }  # fmt: skip
    assert run_job(**variables)[0] == 0
    assert json.loads(termination_log.read_text())["state"] == "done"
    assert run_job(**variables | {"RUN_NAME": "x", "INPUT_COLUMN": "ü" * 5000})[0] == 65
    assert len(termination_log.read_bytes()) <= 4096
    assert json.loads(termination_log.read_text())["exit_code"] == 65


def test_a_full_disk_does_not_leave_a_status_that_says_running(folder, monkeypatch):
    """What is there is written over: it has its room."""
    write_progress(folder, "train", step=3, last_checkpoint=2)

    def full(self, path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StatusRecord, "write", full)
    write_failure(folder, DiskFull("OUTPUT_DIR: no space left. Free some."))
    told = read(folder)
    assert (told.state, told.exit_code, told.step, told.last_checkpoint) == ("failed", 74, 3, 2)


def test_an_attempt_that_was_killed_is_told_as_failed_by_the_next(folder):
    end_what_was_killed(folder)
    assert not folder.status.exists()
    for state in ("done", "failed", "prepared"):
        write_status(folder, StatusRecord(state))
        end_what_was_killed(folder)
        assert read(folder).state == state
    write_progress(folder, "train", step=3)
    end_what_was_killed(folder)
    told = read(folder)
    assert (told.state, told.stage, told.step, told.exit_code, told.retryable) == ("failed", "train", 3, 138, True)
    folder.status.write_text("{")
    end_what_was_killed(folder)
    assert folder.status.read_text() == "{", "which is told where it is needed"


@pytest.mark.parametrize(
    ("before", "corrected"),
    [
        (StatusRecord("running", stage="train"), True),
        (StatusRecord("failed", exit_code=138), True),
        (StatusRecord("failed", exit_code=143), False),
        (StatusRecord("done"), False),
        (None, False),
    ],
)
def test_what_several_processes_failed_with_is_corrected_where_rank_0_could_not_know_it(make_settings, before, corrected):
    settings = make_settings()
    folder = RunFolder.of(settings)
    correct_failure(settings, DataError("x"))
    assert not folder.path.exists()
    folder.path.mkdir(parents=True)
    if before:
        write_status(folder, before)
    with locked(folder.path):
        correct_failure(settings, DataError("x"))
        assert not before or read(folder).state == before.state, "another process has the folder"
    correct_failure(settings, DataError("x"))
    assert (folder.status.exists() and read(folder).exit_code == 65) == corrected
