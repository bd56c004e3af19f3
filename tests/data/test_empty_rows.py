"""Rows without an input or an answer are named, and left out only when that was asked for."""

import logging

import pytest
from datasets import Dataset

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.empty_rows import find_empty, is_empty
from job.errors import DataError
from job.tables.table import Source, Table


def find(rows: list[dict], empty_rows: str = "error", inputs: tuple[str, ...] = ("q",)) -> frozenset[int]:
    table = Table(Source("TRAIN_DATA", "a.csv"), Dataset.from_list(rows), range(2, len(rows) + 2))
    return find_empty(table, rows, inputs, ColumnMapping("q", "a", AUTO, AUTO, empty_rows=empty_rows))


GOOD, BLANK = {"q": "x", "a": "y", "z": ""}, {"q": " ", "a": None, "z": ""}


@pytest.mark.parametrize("cell", [None, "", " \n", [], {}])
def test_nothing_that_can_be_read_is_empty(cell):
    assert is_empty(cell)


@pytest.mark.parametrize("cell", ["x", "0", [""], "false"])
def test_anything_else_is_not(cell):
    assert not is_empty(cell)


def test_blank_rows_are_skipped_counted_and_told(caplog):
    caplog.set_level(logging.INFO)
    assert find([GOOD, BLANK, GOOD, BLANK]) == {1, 3}
    assert caplog.messages == ["TRAIN_DATA=a.csv: blank rows are skipped (2): row 3, row 5"]


def test_an_error_of_a_spreadsheet_is_no_empty_cell_to_who_sees_it():
    note = 'a.xlsx: column "a": 1 cell with an error, such as #N/A, taken as empty (row 3).'
    table = Table(Source("TRAIN_DATA", "a.xlsx"), Dataset.from_list([GOOD, GOOD | {"a": None}]), [2, 3], notes=(note,))
    with pytest.raises(DataError, match=r'row 3, column "a": the cell is empty or holds an error such as #N/A\. Fill it in'):
        find_empty(table, table.rows, ("q",), ColumnMapping("q", "a", AUTO, AUTO))


def test_a_row_that_has_something_elsewhere_is_not_blank():
    with pytest.raises(DataError, match=r'row 3, column "a": the cell is empty\.'):
        find([GOOD, BLANK | {"z": "note"}])


def test_rows_without_an_answer_are_named_with_what_to_do():
    with pytest.raises(DataError) as raised:
        find([GOOD, *[GOOD | {"a": " "}] * 7])
    assert str(raised.value) == (
        'TRAIN_DATA=a.csv: row 3, row 4, row 5, row 6, row 7 and 2 more, column "a": the cell is empty. Fill it in, delete the '
        "row, or set EMPTY_ROWS=drop to leave such rows out."
    )


def test_dropped_rows_are_counted_and_named(caplog):
    assert find([GOOD, GOOD | {"a": ""}, GOOD | {"q": None}], "drop") == {1, 2}
    assert caplog.messages == [
        'TRAIN_DATA=a.csv: EMPTY_ROWS=drop leaves out 1 rows whose "a" is empty: row 3',
        'TRAIN_DATA=a.csv: EMPTY_ROWS=drop leaves out 1 rows whose "q" is empty: row 4',
    ]


def test_a_row_has_an_input_if_any_column_of_the_prompt_is_filled():
    assert find([GOOD | {"q": "", "z": "note"}], inputs=("q", "z")) == frozenset()
    with pytest.raises(DataError, match=r'row 2, column "q"'):
        find([GOOD | {"q": ""}], inputs=("q", "z"))


def test_a_table_of_which_nothing_is_left_is_refused():
    with pytest.raises(DataError, match='no row has both an input and an answer in "q" and "a"'):
        find([BLANK, GOOD | {"a": ""}], "drop")
