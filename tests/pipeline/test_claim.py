"""A run's folder in the hands of one process: what is made, deleted, refused, and what status.json says of the end."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from job import __version__
from job.config.identity import identity
from job.config.settings import Settings
from job.errors import DataError, DiskFull, JobError, OutputError, SettingsError
from job.pipeline import claim
from job.pipeline.claim import check_content, claimed_run, drop_damaged_adapter, update_settings
from job.pipeline.records import SettingsRecord, StatusRecord, library_versions
from job.pipeline.run_folder import WRITTEN, RunFolder
from job.system.lock import locked

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(make_settings) -> RunFolder:
    """Where the run will lie; nothing is there yet."""
    return RunFolder.of(make_settings())


def begin(folder: RunFolder, settings: dict, content: dict | None = None) -> None:
    """Leaves what a run leaves that has trained a step with these settings."""
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    SettingsRecord(settings, content or {}).write(folder.settings)


def leave_everything(folder: RunFolder) -> None:
    """Every file and folder that a run writes, and beside them some that are a person's own."""
    for name in WRITTEN:
        path = folder.path / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            (path / "inside").mkdir(parents=True)
    StatusRecord("done").write(folder.status)
    SettingsRecord({"lora_r": 1}).write(folder.settings)
    folder.logs.mkdir(parents=True)
    for path in (folder.path / "notes.txt", folder.logs / "events.out.tfevents.1.host", folder.logs / "notes.txt"):
        path.touch()
    (folder.path / "my plots").mkdir()


def hold(settings: Settings) -> RunFolder:
    """The folder, claimed for a moment."""
    with claimed_run(settings, identity(settings)) as folder:
        return folder


def names(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def test_a_claim_makes_the_folders_and_records_the_settings(make_settings, folder):
    settings = make_settings()
    with claimed_run(settings, identity(settings)) as claimed:
        assert claimed == folder
        assert folder.logs.is_dir()
    assert names(folder.path) == {".lock", "settings.json"}
    assert SettingsRecord.read(folder.settings).settings == identity(settings)


def test_overwrite_deletes_all_that_a_run_writes_and_nothing_else(make_settings, folder):
    leave_everything(folder)
    settings = make_settings()
    with claimed_run(settings, identity(settings), overwrite=True):
        assert names(folder.path) == {".lock", "settings.json", "notes.txt", "my plots"}
        assert names(folder.logs) == {"notes.txt"}
        assert SettingsRecord.read(folder.settings).settings == identity(settings), "those of the new run"


def test_a_folder_that_is_half_deleted_is_not_a_finished_run(make_settings, folder, monkeypatch):
    leave_everything(folder)
    assert folder.was_done

    def cut_off(path: Path) -> None:
        raise OSError(errno.EIO, "the machine is gone")

    monkeypatch.setattr(claim.shutil, "rmtree", cut_off)
    settings = make_settings()
    with pytest.raises(OSError, match="the machine is gone"), claimed_run(settings, identity(settings), overwrite=True):
        pass
    assert folder.adapter.exists()
    assert not folder.was_done


def test_without_overwrite_nothing_is_deleted(make_settings, folder):
    leave_everything(folder)
    folder.new_evaluation.unlink()  # of a kill; see test_new_evaluation.py
    before = names(folder.path)
    settings = make_settings()
    with claimed_run(settings, {"lora_r": 1}):
        assert names(folder.path) == before | {".lock"}


def test_a_folder_in_use_is_neither_cleared_nor_told_to_have_failed(make_settings, folder):
    leave_everything(folder)
    settings = make_settings()
    with locked(folder.path), pytest.raises(OutputError, match="in use by process"), claimed_run(settings, {}, overwrite=True):
        pass
    assert set(WRITTEN) <= names(folder.path)
    assert StatusRecord.read(folder.status).state == "done"


def test_one_writer_a_folder_and_a_dead_one_holds_nothing(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "PREPROCESSING_NUM_WORKERS": 1}
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
    assert run_job("prepare", **variables)[0] == 0


def test_a_disk_that_is_full_is_74_here_and_in_the_status(make_settings, folder):
    settings = make_settings()
    with pytest.raises(DiskFull, match=r"no space left\. Free some"), claimed_run(settings, identity(settings)):
        raise RuntimeError("the library failed") from OSError(errno.ENOSPC, "No space left on device")
    told = StatusRecord.read(folder.status)
    assert (told.state, told.exit_code, told.retryable) == ("failed", 74, False)
    assert told.error.startswith("OUTPUT_DIR or LOGS_DIR: no space left")
    assert told.fix == "Free some and run the same command again."


def test_an_error_of_the_data_on_a_full_disk_stays_an_error_of_the_data(make_settings, folder):
    settings = make_settings()
    with pytest.raises(DataError), claimed_run(settings, identity(settings)):
        raise DataError("row 3 is empty. Fill it.") from OSError(errno.ENOSPC, "No space left on device")
    assert StatusRecord.read(folder.status).exit_code == 65


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, 74), (errno.ESTALE, 74), (errno.EROFS, 73), (errno.ENOENT, 73)])
def test_a_run_folder_that_fails_or_goes_is_told_here_and_where_it_can_in_the_status(make_settings, folder, number, code):
    settings = make_settings()
    with pytest.raises(JobError, match="OUTPUT_DIR: output/r/x") as raised, claimed_run(settings, identity(settings)):
        raise OSError(number, os.strerror(number), "output/r/x")
    assert raised.value.exit_code == StatusRecord.read(folder.status).exit_code == code


def test_a_stop_is_a_failure_that_a_retry_helps(make_settings, folder):
    settings = make_settings()
    with pytest.raises(KeyboardInterrupt), claimed_run(settings, identity(settings)):
        raise KeyboardInterrupt("stopped by SIGTERM. Run the same command again to resume.")
    told = StatusRecord.read(folder.status)
    assert (told.state, told.exit_code, told.retryable) == ("failed", 143, True)
    assert told.fix == "Run the same command again to resume."


def test_a_bug_is_70_and_its_traceback_keeps_what_it_came_from(make_settings, folder):
    settings = make_settings()
    with pytest.raises(ValueError, match="a bug") as raised, claimed_run(settings, identity(settings)):
        raise ValueError("a bug") from KeyError("what it came from")
    assert isinstance(raised.value.__cause__, KeyError)
    told = StatusRecord.read(folder.status)
    assert (told.exit_code, told.error, told.fix) == (70, "ValueError: a bug", "Report it, with the log.")


def test_until_something_is_trained_all_settings_may_change(make_settings, folder):
    hold(make_settings())
    hold(make_settings(lora_r=4))
    assert SettingsRecord.read(folder.settings).settings["lora_r"] == 4


def test_a_setting_that_the_version_of_the_run_did_not_know_is_not_compared(make_settings, folder):
    settings = make_settings()
    known = {name: value for name, value in identity(settings).items() if name != "use_dora"}
    begin(folder, known)
    hold(make_settings(use_dora=True))
    begin(folder, known | {"a setting of 0.1.0": 3})
    hold(settings)


def test_once_a_run_was_evaluated_other_settings_of_the_evaluation_are_no_others(make_settings, folder):
    begin(folder, identity(make_settings()))
    other, trained_otherwise = make_settings(metrics="chrf", num_beams=2), make_settings(metrics="chrf", lora_r=2)
    with pytest.raises(SettingsError, match="METRICS was"):
        hold(other)
    folder.evaluation.touch()
    hold(other)
    with pytest.raises(SettingsError, match=r"settings: LORA_R was 16 and is 2\. Choose"):
        hold(trained_otherwise)


@pytest.mark.parametrize(("epochs", "more", "trained", "accepted"), [
    (3, {}, False, True), (1, {}, False, False), (3, {"lora_r": 4}, False, False), (3, {}, True, False)
])  # fmt: skip
def test_more_epochs_alone_are_accepted_until_there_is_an_adapter(make_settings, folder, epochs, more, trained, accepted):
    asked = {"max_steps": None, "num_train_epochs": epochs} | more
    begin(folder, identity(make_settings(max_steps=None, num_train_epochs=2)))
    if trained:
        folder.adapter.mkdir()
    settings = make_settings(**asked)
    if not accepted:
        with pytest.raises(SettingsError, match=f"NUM_TRAIN_EPOCHS was 2.0 and is {epochs}.0"):
            hold(settings)
    else:
        hold(settings)
    assert SettingsRecord.read(folder.settings).settings["num_train_epochs"] == (epochs if accepted else 2)


def test_a_run_that_other_versions_began_is_said_to_be_so_and_one_of_the_same_is_not(make_settings, folder, caplog):
    settings = make_settings()
    begin(folder, identity(settings))
    hold(settings)
    assert "was begun with" not in caplog.text
    others = library_versions() | {"torch": "2.9.0"}
    SettingsRecord(identity(settings), lora_job="0.0.9", libraries=others).write(folder.settings)
    hold(settings)
    now = f"this is lora-job {__version__}, torch {library_versions()['torch']}"
    assert f"output/r was begun with lora-job 0.0.9, torch 2.9.0; {now}" in caplog.text


def test_an_adapter_that_is_set_aside_replaces_one_that_was_and_ends_its_proof(finished_run, caplog):
    folder = RunFolder(finished_run[1], Path())
    drop_damaged_adapter(folder)
    assert folder.proof.exists()
    folder.damaged_adapter.mkdir()
    (folder.adapter / "tokenizer.json").unlink()
    drop_damaged_adapter(folder)
    assert not folder.adapter.exists()
    assert not folder.proof.exists()
    assert (folder.damaged_adapter / "job.json").exists()
    assert "output/r/adapter: tokenizer.json is missing: set aside as adapter.damaged, and made again" in caplog.text


def test_content_is_recorded_and_other_content_refused_once_something_was_trained(tmp_path):
    folder = RunFolder(tmp_path, tmp_path)
    check_content(folder, {"the training data": "a"})
    check_content(folder, {"the training data": "b"})
    begin(folder, {"lora_r": 1}, {"the training data": "b"})
    check_content(folder, {"the training data": "b", "the base model": "c"})
    assert SettingsRecord.read(folder.settings) == SettingsRecord({"lora_r": 1}, {"the training data": "b", "the base model": "c"})
    with pytest.raises(SettingsError, match="other content: the training data and the base model changed since") as raised:
        check_content(folder, {"the training data": "x", "the base model": "y"})
    assert "set OVERWRITE=true" in str(raised.value)
    assert SettingsRecord.read(folder.settings).content["the training data"] == "b"


def test_new_settings_are_recorded_beside_those_that_stay(tmp_path):
    folder = RunFolder(tmp_path, tmp_path)
    begin(folder, {"lora_r": 1, "metrics": ["loss"]}, {"the base model": "c"})
    update_settings(folder, {"metrics": ["chrf"]})
    assert SettingsRecord.read(folder.settings) == SettingsRecord({"lora_r": 1, "metrics": ["chrf"]}, {"the base model": "c"})
