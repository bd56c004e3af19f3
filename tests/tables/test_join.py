"""Files with different columns and types are one table of text."""

import pyarrow as pa
from datasets import Dataset

from job.tables.join import join


def joined(files: dict[str, dict | Dataset]) -> tuple[Dataset, tuple[str, ...]]:
    return join([(name, Dataset.from_dict(rows) if isinstance(rows, dict) else rows) for name, rows in files.items()])


def test_a_column_that_a_file_lacks_is_empty_there_and_told():
    rows, notes = joined({"a": {"x": ["1"], "y": ["2"]}, "b": {"x": ["3"]}})
    assert rows.to_list() == [{"x": "1", "y": "2"}, {"x": "3", "y": None}]
    assert notes == ('b: no column "y", which other files have; it is empty there.',)


def test_a_column_that_files_spell_otherwise_is_one():
    tables = {"a": {"input": ["1"], "x": ["2"]}, "b": {"Input ": ["3"], "X": ["4"], "x": ["5"]}}
    rows, notes = joined(tables)
    assert rows.to_list() == [{"input": "1", "x": "2", "X": None}, {"input": "3", "x": "5", "X": "4"}]
    assert notes == ('a: no column "X", which other files have; it is empty there.',)


def test_a_column_of_different_types_is_text_everywhere():
    rows, notes = joined({"a": {"x": [1, None]}, "b": {"x": ["01"]}})
    assert rows.to_list() == [{"x": "1"}, {"x": None}, {"x": "01"}]
    assert notes == ()


def test_columns_that_are_empty_or_of_long_texts_take_the_type_of_the_others():
    long = Dataset(pa.table({"x": pa.array(["b"], pa.large_string())}))
    rows, _ = joined({"a": {"x": [None]}, "b": {"x": ["a"]}, "c": long})
    assert [row["x"] for row in rows] == [None, "a", "b"]


def test_equal_columns_are_joined_as_they_are():
    rows, notes = joined({"a": {"x": [[1]]}, "b": {"x": [[2, 3]]}})
    assert rows.to_list() == [{"x": [1]}, {"x": [2, 3]}]
    assert notes == ()
