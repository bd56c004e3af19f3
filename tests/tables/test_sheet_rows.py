"""The table on a sheet is what a person sees of it, and what is left out is told."""

import pytest

from job.errors import DataError
from job.tables.file_rows import FileRows
from job.tables.sheet import NOT_COMPUTED, NoValue, Sheet, SheetRow
from job.tables.sheet_rows import filled_rows, sheet_rows

HEADER = ("input", "output")


def sheet(*rows: tuple, hidden: tuple[int, ...] = (), **known: object) -> Sheet:
    """A sheet; rows are numbered from 1."""
    made = (
        SheetRow(number, {column: text for column, text in enumerate(row) if text is not None}, hidden=number in hidden)
        for number, row in enumerate(rows, 1)
        if row
    )
    return Sheet("Data", hidden=False, rows=made, **known)


def read(*rows: tuple, **known: object) -> FileRows:
    return sheet_rows("TRAIN_DATA=a.xlsx", sheet(*rows, **known))


def test_rows_without_text_are_left_out_and_the_others_keep_their_numbers():
    found = read(HEADER, ("a", "b"), (), (" ", "\n"), ("c", None), (), (" ",))
    assert found.columns == {"input": ["a", "c"], "output": ["b", None]}
    assert found.numbers == [2, 5]
    assert found.notes == ("3 rows left out, blank: rows 3, 4, 7",)


def test_hidden_rows_are_left_out():
    found = read(HEADER, *((f"{number}", "x") for number in range(2, 9)), hidden=(3, 4, 5, 7))
    assert found.columns["input"] == ["2", "6", "8"]
    assert found.notes == (
        "4 rows left out, hidden (unhide them or clear the filter to use them): rows 3, 4, 5 and 1 more",
    )  # fmt: skip


def test_a_sheet_of_hidden_rows_is_refused():
    with pytest.raises(
        DataError, match=r'^TRAIN_DATA=a.xlsx: all rows of the sheet "Data" are hidden. Clear its filter, or unhide'
    ):
        read(HEADER, ("a", "b"), hidden=(2,))


def test_a_hidden_header_is_the_header():
    assert read(HEADER, ("a", "b"), hidden=(1,)).columns == {"input": ["a"], "output": ["b"]}


def test_cells_with_errors_are_empty_and_told():
    found = read(HEADER, ("a", NoValue("#N/A")), ("b", "c"), (NoValue("#REF!"), "d"), (NoValue("#REF!"), "d"))
    assert found.columns == {"input": ["a", "b", None, None], "output": [None, "c", "d", "d"]}
    assert found.notes == (
        'column "input": 2 cells with an error, such as #REF!, taken as empty (rows 4, 5)',
        'column "output": 1 cell with an error, such as #N/A, taken as empty (row 2)',
    )


def test_a_column_of_formulas_that_were_never_computed_is_unusable():
    found = read(HEADER, ("a", "b"), ("c", NOT_COMPUTED))
    why = "its formulas in row 3 were never computed: open the file in a spreadsheet program and save it"
    assert found.columns == {"input": ["a", "c"], "output": ["b", None]}
    assert found.unusable == {"output": why}
    assert found.notes == (f'column "output": {why}',)


def test_a_title_and_a_second_line_of_the_header_are_left_out():
    rows = [(f"please book room {number}", f"room {number}") for number in range(10)]
    found = read(("Bookings\nof  March",), (), HEADER, ("(text)", "(label)"), *rows)
    assert found.columns["output"] == [f"room {number}" for number in range(10)]
    assert found.numbers[0] == 5
    assert found.notes == (
        'the header is row 3; what stands above it is left out ("Bookings of March")',
        'row 4 is a second line of the header and left out ("(text)", "(label)")',
    )


def test_rows_that_repeat_the_header_are_left_out():
    found = read(HEADER, ("a", "b"), HEADER, ("c", "d"))
    assert found.columns["input"] == ["a", "c"]
    assert found.notes == ("1 row left out, repeating the header: row 3",)


def test_names_are_written_on_one_line_without_spaces_around_them():
    assert list(read((" input", "right\n answer\xa0"), ("a", "b")).columns) == ["input", "right answer"]


def test_columns_without_a_name_are_called_by_their_letters_and_a_name_that_comes_twice_gets_a_number():
    found = read(("x", None, "x", "  ", NoValue("#N/A")), ("a", "b", "c", "d", "e"))
    assert found.columns == {"x": ["a"], "B": ["b"], "x (2)": ["c"], "D": ["d"], "E": ["e"]}
    assert found.unusable == {"x": "2 columns have that name: rename the others"}
    assert found.notes == (
        'columns without a name are called by their letters: "B", "D", "E"',
        'column C is one more "x" and called "x (2)"',
    )


def test_remarks_beside_the_table_are_no_column_and_no_row():
    rows = [(str(number), "x") for number in range(20)]
    found = read(HEADER, *rows[:10], (*rows[10], None, "check!"), *rows[11:], (None, None, None, "checked"))
    assert list(found.columns) == ["input", "output"]
    assert len(found.numbers) == 20
    assert found.notes == ("1 row left out, remarks beside the table: row 22",)


def test_merged_blocks_over_several_rows_are_told_where_they_are_in_the_table():
    rows = [("a", "x"), ("b",), ("c", "y"), ("d",)]
    merged = [(1, 0, 1, 1), (2, 0, 2, 1), (2, 1, 3, 1), (4, 1, 5, 1), (40, 1, 50, 1)]
    found = read(HEADER, *rows, merged=merged)
    assert found.columns["output"] == ["x", None, "y", None]
    assert found.notes == ('column "output": 2 cells are merged over several rows, with the text in the first alone (rows 2, 4)',)


def test_a_header_alone_is_a_table_without_rows():
    assert read(HEADER).columns == {"input": [], "output": []}


def test_a_sheet_without_text_is_empty():
    with pytest.raises(DataError, match=r"the sheet is empty\. Put a header and rows into it, or set SHEET to another\."):
        read((" ",), ("\n",))


def test_rows_of_spaces_are_told_from_rows_of_text():
    text, spaces = filled_rows("", sheet(("a",), (" ",), (None, "b")))
    assert ([row.number for row in text], [row.number for row in spaces]) == ([1, 3], [2])


def test_a_cell_far_away_takes_no_memory_in_between():
    far = SheetRow(1_048_576, {16_383: "far"})
    rows = [SheetRow(1, {0: "input", 1: "output"}), *(SheetRow(number, {0: "a", 1: "b"}) for number in range(2, 22)), far]
    found = sheet_rows("", Sheet("Data", hidden=False, rows=iter(rows)))
    assert {name: len(cells) for name, cells in found.columns.items()} == {"input": 20, "output": 20}
