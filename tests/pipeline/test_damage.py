"""What is not as it was written is found, whichever file of a run it is and however it was damaged."""

import shutil
from pathlib import Path

import pytest

from job.pipeline.damage import damage_of
from job.pipeline.run_folder import RunFolder
from job.system.seal import MANIFEST
from tests.system.test_seal import fail_to_open

pytestmark = pytest.mark.slow

DAMAGES = {
    "one bit": lambda path: path.write_bytes(_flipped(path.read_bytes())),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
}
NOT_KNOWN = {("status.json", "one bit")}
"""What tells how a run ended is told by nothing else: of a bit in its texts nobody knows."""


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_every_file_of_a_run_damaged_in_every_way_is_found(finished_run, run_job):
    variables, path = finished_run
    assert run_job("merge", **variables)[0] == 0
    folder = RunFolder(path, Path("logs/r"))
    assert damage_of(folder) == []
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != ".lock")
    assert len(files) > 30
    unnoticed = set()
    for file in files:
        content = file.read_bytes()
        for name, do in DAMAGES.items():
            do(file)
            told = file.parent.name if file.name == MANIFEST else file.name  # of a hash that changed, its file is told
            if not any(told in line for line in damage_of(folder)):
                unnoticed.add((str(file.relative_to(path)), name))
            file.write_bytes(content)
    assert unnoticed <= NOT_KNOWN
    assert damage_of(folder) == []


def test_a_file_that_is_none_of_the_runs_is_told_where_it_could_change_the_adapter(finished_run):
    folder = RunFolder(finished_run[1], Path("logs/r"))
    (folder.adapter / "added_tokens.json").write_text("{}")
    (folder.path / "notes.txt").touch()
    assert damage_of(folder) == ["output/r/adapter/added_tokens.json: is none of the files that were written"]


@pytest.mark.parametrize("name", ["adapter", "data"])
def test_a_folder_that_a_finished_run_has_lost_is_told(finished_run, name):
    folder = RunFolder(finished_run[1], Path("logs/r"))
    shutil.rmtree(folder.path / name)
    (line,) = damage_of(folder)
    assert line.startswith(f"output/r/{name}")


def test_a_merged_model_of_an_older_version_is_said_not_to_be_checked(finished_run, caplog):
    folder = RunFolder(finished_run[1], Path("logs/r"))
    folder.merged.mkdir()
    folder.comparison.write_text("{}")
    assert damage_of(folder) == []
    assert "output/r/merged: without a manifest, as an older version left it: not checked" in caplog.text


def test_a_bad_block_is_told_and_no_reason_to_train_again(finished_run, run_job, monkeypatch, capsys):
    variables, path = finished_run
    folder = RunFolder(path, Path("logs/r"))
    fail_to_open(monkeypatch, "tokenizer.json")
    assert damage_of(folder) == ["output/r/adapter/tokenizer.json: cannot be read (Input/output error)"]
    run_job(**variables)
    assert folder.adapter.exists()
    assert not folder.damaged_adapter.exists()
