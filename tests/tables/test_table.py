"""A table as it was read: what its rows are called, and what an error about its columns adds."""

from pathlib import Path

import pytest
from openpyxl import Workbook

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.rows import shape_of
from job.errors import DataError
from job.tables.read import in_memory, read_table
from job.tables.table import Source, Table


def table(numbers: list[int] | None = None, files: tuple = (), **columns: list) -> Table:
    return Table(Source("FILE", "a.csv"), in_memory(columns)[0], numbers, files)


def test_rows_that_are_selected_keep_their_names():
    found = table([2, 4, 2, 3], (("x.csv", 2), ("y.csv", 2)), input=["a", "b", "c", "d"])
    left = found.select([1, 3])
    assert [left.row_name(index) for index in range(2)] == ["x.csv row 4", "y.csv row 3"]
    assert list(left.cells("input")) == ["b", "d"]
    assert table(input=["a", "b"]).select([1]).row_name(0) == "row 2"


def test_only_a_column_that_is_used_has_to_be_usable():
    Path("a.csv").write_text("input,x,x\na,1,2\n")
    found = read_table(Source("TRAIN_DATA", "a.csv"))
    found.check_usable(["input", "x (2)"])
    with pytest.raises(DataError, match=r'^TRAIN_DATA=a.csv: column "x": 2 columns have that name: rename the others\.$'):
        found.check_usable(["input", "x"])


@pytest.mark.parametrize("header", [("How to use this workbook",), ("topic", "remark")])
def test_columns_of_the_wrong_sheet_are_told_with_the_sheets_that_there_are(header):
    book = Workbook()
    book.active.title = "Read me"
    book.active.append(header)
    book.active.append(["Fill in the second sheet"] * len(header))
    for row in [("input", "output_ground_truth"), ("a", "b")]:
        (book["Data"] if "Data" in book.sheetnames else book.create_sheet("Data")).append(row)
    book.save("a.xlsx")
    with pytest.raises(DataError, match=r'or SHEET: the sheet "Read me" is read; there is also "Data"\.$'):
        shape_of(read_table(Source("TRAIN_DATA", "a.xlsx")), ColumnMapping(AUTO, AUTO, AUTO, AUTO))
    with pytest.raises(DataError, match=r'Set INPUT_COLUMN to one of them, or SHEET: the sheet "Read me" is read; there is also'):
        shape_of(read_table(Source("TRAIN_DATA", "a.xlsx")), ColumnMapping("input", AUTO, AUTO, AUTO))
