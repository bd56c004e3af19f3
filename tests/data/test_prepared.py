"""What preparing leaves on the disk is read as it was, and what older versions left too."""

import errno
import json
import os
from pathlib import Path

import pytest
from datasets import Dataset

from job.data.column_mapping import ColumnMapping
from job.data.lengths import Truncation
from job.data.look import Answers, Label, Look, PartCounts, TableFacts
from job.data.prepared import SUMMARY, PreparedData, load_prepared, read_prepared, save_prepared
from job.data.unknown_text import UnknownText
from job.system import seal
from job.system.seal import MANIFEST

LOOK = Look((TableFacts("mine.csv", 3, 3),), PartCounts(2), PartCounts(1), Answers(2, (Label("a", 1, 1),)))


@pytest.fixture
def prepared() -> PreparedData:
    rows = Dataset.from_dict({"input": ["a", "b"], "row": ["row 2", "row 3"]})
    columns = ColumnMapping("question", "answer", "messages", "{input}")
    cut = Truncation(2, 5, 6, 0, 0, 0, 0, ("row 4",))
    return PreparedData(rows, rows.select([0]), cut, cut, "abc", False, {"3": 2}, {"1": 2}, columns=columns, look=LOOK)


def test_what_was_saved_is_read(prepared, tmp_path):
    (tmp_path / "cut.csv").write_text("part\n")
    save_prepared(prepared, tmp_path / "data", tmp_path / "cut.csv")
    read = load_prepared(tmp_path / "data")
    assert (read.train.to_dict(), read.evaluation.to_dict()) == (prepared.train.to_dict(), prepared.evaluation.to_dict())
    assert (read.train_truncation, read.look, read.columns) == (prepared.train_truncation, LOOK, prepared.columns)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {SUMMARY, MANIFEST, "train", "eval", "cut.csv"}


def test_a_folder_of_before_has_no_look(prepared, tmp_path):
    save_prepared(prepared, tmp_path / "data", tmp_path / "cut.csv")
    path = tmp_path / "data" / SUMMARY
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name in ("fingerprint", "train_cut", "eval_cut")}
    path.write_text(json.dumps(kept))
    read = read_prepared(tmp_path / "data")
    assert (read.look, read.unknown, read.source_lengths, read.opening) == (None, UnknownText(), {}, None)


def test_a_folder_without_a_summary_is_not_complete(tmp_path):
    assert load_prepared(tmp_path) is None


@pytest.fixture
def saved(prepared, tmp_path) -> Path:
    """A folder of prepared data, with a list of cut rows."""
    (tmp_path / "cut.csv").write_text("part\n")
    save_prepared(prepared, tmp_path / "data", tmp_path / "cut.csv")
    return tmp_path / "data"


def test_of_data_that_is_not_as_it_was_written_nothing_is_used_and_the_file_is_told(saved, caplog):
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert len(files) == 9
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        for damaged in (flipped, content[: len(content) // 2], bytes(len(content)), b""):
            path.write_bytes(damaged)
            caplog.clear()
            assert load_prepared(saved) is None, path
            assert path.name in caplog.text or path.name == MANIFEST
            assert "the prepared data there is not used" in caplog.text
        path.unlink()
        assert load_prepared(saved) is None, path
        path.write_bytes(content)
    (saved / "train" / "more.arrow").touch()
    assert load_prepared(saved) is None
    (saved / "train" / "more.arrow").unlink()
    assert load_prepared(saved) is not None


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.ESTALE])
def test_a_disk_that_fails_while_it_is_read_says_nothing_about_the_data(saved, monkeypatch, number):
    def fail(path: Path) -> str:
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(seal, "sha256", fail)
    with pytest.raises(OSError, match="refused"):
        load_prepared(saved)


def test_data_of_an_older_version_without_a_manifest_is_used_as_far_as_it_can_be_read(saved, caplog):
    path = saved / SUMMARY
    summary = json.loads(path.read_text())
    del summary["sealed"]
    path.write_text(json.dumps(summary))
    (saved / MANIFEST).unlink()
    assert len(load_prepared(saved).train) == 2
    rows = next((saved / "train").glob("*.arrow"))
    for damaged in (rows.read_bytes()[:-200], b"", bytes(400)):
        rows.write_bytes(damaged)
        assert load_prepared(saved) is None
    rows.unlink()
    assert load_prepared(saved) is None
    assert caplog.text.count("the prepared data there is not used") == 4


def test_data_is_on_the_disk_before_it_has_its_name(prepared, tmp_path, monkeypatch):
    events, replace, fsync = [], os.replace, os.fsync

    def note_flush(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "replace", lambda a, b: events.append(f"-> {b.name}") or replace(a, b))
    save_prepared(prepared, tmp_path / "data", tmp_path / "cut.csv")
    files = {path.name for path in (tmp_path / "data").rglob("*") if path.name != MANIFEST}
    assert files | {"-> manifest.json"} <= set(events[: events.index("-> data")])
    assert events[-1] == tmp_path.name
