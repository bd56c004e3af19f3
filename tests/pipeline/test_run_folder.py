"""A run's folder: where things lie, and that looking at it leaves no trace."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from job.errors import DataError, InputMissing
from job.pipeline.records import AdapterRecord, SettingsRecord, StatusRecord
from job.pipeline.run_folder import WRITTEN, RunFolder

PROPERTIES = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]

OF_A_SWEEP = {"sweep.html", "study.db"}
"""In the folder of one, beside its trials."""


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
    assert (
        RunFolder.of(settings, "other")
        == RunFolder.of(settings, "output/other/")
        == RunFolder(Path("output/other"), Path("logs/other"))
    )
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
    of_a_kill_or_a_checkpoint = {
        "adapter.damaged", "adapter.partial", "data.partial", "data.work", "merged.partial", "checkpoints", "evaluation.new",
        "evaluation.partial",
    }  # fmt: skip
    assert set(WRITTEN) - left == of_a_kill_or_a_checkpoint | OF_A_SWEEP


def test_all_that_a_stopped_run_leaves_is_what_overwrite_deletes(stopped_run):
    left = {one.name for one in stopped_run[1].iterdir()}
    assert left - set(WRITTEN) == {".lock"}
    assert "checkpoints" in left


def test_every_path_lies_below_one_that_overwrite_deletes(tmp_path):
    below = {name: path.relative_to(tmp_path).parts[0] for name, path in paths(RunFolder(tmp_path, tmp_path)).items()}
    assert set(below.values()) == {name for name in WRITTEN if not name.endswith((".partial", ".work"))} - OF_A_SWEEP


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
def test_a_run_is_done_when_its_status_says_so_and_not_before(finished_run, state, done):
    folder = RunFolder(finished_run[1], Path())
    StatusRecord(state, sealed=True).write(folder.status)
    assert (folder.is_done, folder.was_done) == (done, done)


ADAPTER = (
    "adapter_config.json", "adapter_model.safetensors", "generation_config.json", "job.json", "manifest.json", "README.md",
    "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip


def test_a_run_whose_adapter_is_not_what_was_proven_is_not_done(finished_run):
    folder = RunFolder(finished_run[1], Path())
    assert {path.name for path in folder.adapter.iterdir()} == set(ADAPTER)
    for name in ADAPTER:
        path = folder.adapter / name
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        assert folder.is_done == (name == "README.md"), "a card is a text for people, who rewrite it"
        path.unlink()
        assert not folder.is_done, name
        with pytest.raises(DataError, match=f"output/r/adapter: {name} is .*missing.* which makes it again"):
            folder.check_adapter()
        path.write_bytes(content)
    (folder.adapter / ".DS_Store").touch()
    (folder.adapter / "notes.txt").touch()
    assert folder.is_done
    shutil.rmtree(folder.adapter)
    assert not folder.is_done


@pytest.mark.parametrize("name", ["evaluation.csv", "proof.json", "verdict.json", "report.html", "data.html", "manifest.json"])
def test_a_run_that_has_lost_a_file_is_not_done_and_one_that_a_person_edited_is(finished_run, name):
    folder = RunFolder(finished_run[1], Path())
    if name == "evaluation.csv":
        folder.evaluation.write_text(folder.evaluation.read_text() + "\n")
        assert folder.is_done
    (folder.path / name).unlink()
    assert not folder.is_done
    assert folder.was_done
    assert folder.missing == [name]


def test_an_adapter_that_an_older_version_left_without_a_manifest_is_known_by_its_weights(finished_run):
    folder = RunFolder(finished_run[1], Path())
    record = AdapterRecord.read(folder.adapter_record)
    (folder.adapter / "manifest.json").unlink()
    assert folder.adapter_damage == ["manifest.json is missing"]
    replace(record, sealed=False).write(folder.adapter_record)
    assert folder.adapter_damage == []
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    save_file(weights | {"one": torch.tensor([math.nan])}, folder.adapter / "adapter_model.safetensors")
    assert folder.adapter_damage == ["adapter_model.safetensors is empty or holds NaN"]
    (folder.adapter / "adapter_model.safetensors").write_bytes(bytes(100))
    assert folder.adapter_damage == ["adapter_model.safetensors is damaged or missing"]


def test_the_settings_are_those_that_were_written(tmp_path):
    SettingsRecord({"lora_r": 2}, {"the base model": "abc"}).write(tmp_path / "settings.json")
    assert RunFolder(tmp_path, tmp_path).read_settings() == SettingsRecord({"lora_r": 2}, {"the base model": "abc"})


def test_a_folder_with_an_adapter_passes(finished_run):
    RunFolder(finished_run[1], Path()).check_adapter()
