"""A run's folder: where things lie, and that looking at it leaves no trace."""

from pathlib import Path

import pytest

from job.errors import InputMissing
from job.pipeline.records import SettingsRecord, StatusRecord
from job.pipeline.run_folder import WRITTEN, RunFolder

PROPERTIES = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]


def paths(folder: RunFolder) -> dict[str, Path]:
    """Every path that the folder knows, by its property."""
    found = {name: getattr(folder, name) for name in PROPERTIES}
    return {name: path for name, path in found.items() if isinstance(path, Path)}


def test_looking_at_a_run_makes_nothing_on_the_disk(make_settings, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    settings = make_settings()
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "rows.csv"]
    folder = RunFolder.of(settings)
    assert (folder.path, folder.logs) == (Path("output/r"), Path("logs/r"))
    assert not any(path.exists() for path in paths(folder).values())
    assert (folder.name, folder.is_begun, folder.is_done, folder.read_settings()) == ("r", False, False, SettingsRecord())
    with pytest.raises(InputMissing, match=r"output/r: no adapter there. Set RUN_NAME to a finished run in OUTPUT_DIR=output\."):
        folder.check_adapter()
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "rows.csv"]


def test_all_that_a_run_leaves_is_what_overwrite_deletes(finished_run, run_job):
    variables, path = finished_run
    Path("new.jsonl").write_text('{"input": "the 3 of May"}\n')
    assert run_job("merge", **variables)[0] == 0
    assert run_job("predict", "new.jsonl", **variables)[0] == 0
    left = {one.name for one in path.iterdir()}
    assert left <= {*WRITTEN, ".lock"}
    of_a_kill_or_a_checkpoint = {"adapter.partial", "data.partial", "data.work", "merged.partial", "checkpoints"}
    assert set(WRITTEN) - left == of_a_kill_or_a_checkpoint


def test_all_that_a_stopped_run_leaves_is_what_overwrite_deletes(stopped_run):
    left = {one.name for one in stopped_run[1].iterdir()}
    assert left - set(WRITTEN) == {".lock"}
    assert "checkpoints" in left


def test_every_path_lies_below_one_that_overwrite_deletes(tmp_path):
    below = {name: path.relative_to(tmp_path).parts[0] for name, path in paths(RunFolder(tmp_path, tmp_path)).items()}
    assert set(below.values()) == {name for name in WRITTEN if not name.endswith((".partial", ".work"))}


def test_the_status_is_deleted_first():
    assert WRITTEN[0] == "status.json"
    assert len(set(WRITTEN)) == len(WRITTEN)


@pytest.mark.parametrize("trained", ["adapter", "checkpoints"])
def test_a_run_is_begun_once_something_was_trained(tmp_path, trained):
    folder = RunFolder(tmp_path, tmp_path)
    for name in ("data", "predictions"):
        (tmp_path / name).mkdir()
    SettingsRecord({"lora_r": 2}).write(folder.settings)
    StatusRecord("running", stage="prepare").write(folder.status)
    assert not folder.is_begun
    (tmp_path / trained).mkdir()
    assert folder.is_begun


@pytest.mark.parametrize(("state", "done"), [("running", False), ("failed", False), ("done", True)])
def test_a_run_is_done_when_its_status_says_so_and_not_before(tmp_path, state, done):
    folder = RunFolder(tmp_path, tmp_path)
    folder.adapter.mkdir()
    folder.report.touch()
    StatusRecord(state).write(folder.status)
    assert folder.is_done == done


def test_the_settings_are_those_that_were_written(tmp_path):
    SettingsRecord({"lora_r": 2}, {"the base model": "abc"}).write(tmp_path / "settings.json")
    assert RunFolder(tmp_path, tmp_path).read_settings() == SettingsRecord({"lora_r": 2}, {"the base model": "abc"})


def test_a_folder_with_an_adapter_passes(tmp_path):
    (tmp_path / "adapter").mkdir()
    RunFolder(tmp_path, tmp_path).check_adapter()
