"""What preparing leaves on the disk is read as it was, and what older versions left too."""

import json

import pytest
from datasets import Dataset

from job.data.column_mapping import ColumnMapping
from job.data.lengths import Truncation
from job.data.look import Answers, Label, Look, PartCounts, TableFacts
from job.data.prepared import SUMMARY, PreparedData, load_prepared, read_prepared, save_prepared
from job.data.unknown_text import UnknownText

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
    assert {path.name for path in (tmp_path / "data").iterdir()} == {SUMMARY, "train", "eval", "cut.csv"}


def test_a_folder_of_before_has_no_look(prepared, tmp_path):
    save_prepared(prepared, tmp_path / "data", tmp_path / "cut.csv")
    path = tmp_path / "data" / SUMMARY
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name in ("fingerprint", "train_cut", "eval_cut")}
    path.write_text(json.dumps(kept))
    read = read_prepared(tmp_path / "data")
    assert (read.look, read.unknown, read.source_lengths, read.opening) == (None, UnknownText(), {}, None)


def test_a_folder_without_a_summary_is_not_complete(tmp_path):
    assert load_prepared(tmp_path) is None
