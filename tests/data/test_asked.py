"""Rows without an input are not asked, are told, and all rows keep the names that a person calls them by."""

from dataclasses import replace

import pytest

from job.data.asked import asked_rows
from job.data.column_mapping import ColumnMapping
from job.errors import DataError
from job.tables.read import in_memory
from job.tables.table import Source, Table

COLUMNS = ColumnMapping("input", "output_ground_truth", "messages", "Input: {input}")


def table(numbers: list[int] | None = None, files: tuple = (), **columns: list) -> Table:
    return Table(Source("FILE", "a.csv"), in_memory(columns)[0], numbers, files)


def test_rows_without_an_input_are_told_with_their_numbers(caplog):
    found = table([2, 3, 5, 6, 7, 8, 9, 10], input=["a", None, " ", "b", "", None, "", ""])
    assert asked_rows(found, COLUMNS, is_chat=False) == [0, 3]
    assert 'FILE=a.csv: 6 rows have no "input" and stay unanswered: row 3, row 5, row 7, row 8, row 9 and 1 more' in caplog.text


def test_a_row_with_one_of_several_inputs_is_asked():
    columns = replace(COLUMNS, template="{context}: {input}")
    assert asked_rows(table(input=["a", None, None], context=[None, "b", ""]), columns, is_chat=False) == [0, 1]


def test_a_field_inside_a_column_is_an_input():
    columns = replace(COLUMNS, input="translation.en")
    found = table(translation=[{"en": "a"}, {"en": ""}])
    assert asked_rows(found, columns, is_chat=False) == [0]


def test_chats_without_messages_are_not_asked():
    found = table(messages=[[{"role": "user", "content": "a"}], [], None])
    assert asked_rows(found, COLUMNS, is_chat=True) == [0]
    assert asked_rows(table(input=["a", ""]), COLUMNS, is_chat=True) == [0]


def test_a_table_without_the_column_is_for_others_to_refuse():
    assert asked_rows(table(text=["a", ""]), COLUMNS, is_chat=False) == [0, 1]


def test_a_table_without_any_input_is_told():
    with pytest.raises(DataError, match=r'FILE=a.csv: the column "input" is empty in all 2 rows\. Fill it in\.'):
        asked_rows(table(input=["", None]), COLUMNS, is_chat=False)
