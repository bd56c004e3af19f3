"""Each kind of file, compressed or not, is edited by the module of its format."""

import gzip
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook

from job.tables.added_columns import AddedColumns
from job.tables.edit import EDITORS, edit
from job.tables.read import SUFFIXES

ADDED = AddedColumns(("output",), {2: ("x",)})


def test_whatever_can_be_read_can_be_edited_but_old_and_open_document_workbooks():
    assert set(SUFFIXES) - set(EDITORS) <= {".xls", ".ods"}


def test_a_sheet_is_chosen_by_its_name_and_the_others_stay():
    book = Workbook()
    book.active.append(["first"])
    for row in (["input"], ["a"]):
        book.create_sheet("Data").append(row) if row == ["input"] else book["Data"].append(row)
    book.save("a.xlsx")
    edit(Path("a.xlsx"), Path("b.xlsx"), ADDED, "Data")
    made = load_workbook("b.xlsx")
    assert [[cell.value for cell in row] for row in made["Data"]] == [["input", "output"], ["a", "x"]]
    assert [[cell.value for cell in row] for row in made.worksheets[0]] == [["first"]]


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_a_compressed_table_comes_back_compressed(suffix):
    source, target = Path(f"a.csv{suffix}"), Path(f"b.csv{suffix}")
    if suffix == ".gz":
        source.write_bytes(gzip.compress(b"input,b\ny,1\n"))
    else:
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("a.csv", "input,b\ny,1\n")
    edit(source, target, ADDED, None)
    content = gzip.decompress(target.read_bytes()) if suffix == ".gz" else zipfile.ZipFile(target).read("a.csv")
    assert content == b"input,b,output\ny,1,x\n"
