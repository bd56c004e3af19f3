"""Spreadsheets of each format give their rows, and each damaged file one line that says what it is."""

import re
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from openpyxl import load_workbook

from job.errors import DataError
from job.tables.workbook import read_workbook, table_place
from tests.tables.made_workbooks import ods, workbook, xlsx

FIXTURE = Path(__file__).parents[1] / "fixtures" / "workbooks" / "excel_97.xls"


def columns(path: Path, sheet: str | None = None) -> dict[str, list]:
    return read_workbook("TRAIN_DATA=x", path, sheet).columns


def hide(path: Path, *sheets: str) -> Path:
    book = load_workbook(path)
    for sheet in sheets:
        book[sheet].sheet_state = "hidden"
    book.active = next((number for number, sheet in enumerate(book.worksheets) if sheet.sheet_state == "visible"), 0)
    book.save(path)
    return path


def test_a_sheet_is_chosen_by_its_name_and_is_else_the_first():
    path = workbook("a.xlsx", first=[("a",), ("x",)], second=[("a",), ("y",)])
    assert columns(path) == {"a": ["x"]}
    assert columns(path, "second") == columns(path, " Second") == {"a": ["y"]}
    with pytest.raises(DataError, match=r'^TRAIN_DATA=x: no sheet "third"; found "first", "second". Set SHEET to one of them.$'):
        columns(path, "third")


def test_a_sheet_that_is_hidden_or_empty_is_not_the_first_but_can_be_named():
    path = hide(workbook("a.xlsx", old=[("a",), ("x",)], empty=[], new=[("a",), ("y",)]), "old")
    assert columns(path) == {"a": ["y"]}
    assert columns(path, "old") == {"a": ["x"]}
    assert read_workbook("", path, None).notes == (
        'a.xlsx: the sheet "new" is read; there is also "old" (hidden): SHEET names the one to read.',
    )  # fmt: skip
    assert read_workbook("", path, "old").notes == ()


def test_an_empty_sheet_beside_the_one_that_is_read_is_not_mentioned():
    assert read_workbook("", workbook("a.xlsx", one=[("a",), ("x",)], two=[]), None).notes == ()


def test_each_format_gives_the_same_text():
    path = workbook("a.xlsx", one=[("a", "b"), ("x", 1.0), ("y", True)])
    text = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    cells = [["a", "b"], ["x", None], ["y", None]]
    cells[1][1] = '<table:table-cell office:value-type="float" office:value="1"/>'
    cells[2][1] = '<table:table-cell office:value-type="boolean" office:boolean-value="true"/>'
    rows = "".join(
        "<table:table-row>" + "".join(cell if cell.startswith("<") else text.format(cell) for cell in row) + "</table:table-row>"
        for row in cells
    )
    expected = {"a": ["x", "y"], "b": ["1", "TRUE"]}
    assert columns(path) == columns(ods(f'<table:table table:name="one">{rows}</table:table>')) == expected
    assert columns(FIXTURE)["number"] == ["1.5", "3", "6", None]


def test_the_content_decides_and_not_the_ending():
    shutil.copy(FIXTURE, "a.xlsx")
    assert columns(Path("a.xlsx"))["number"] == ["1.5", "3", "6", None]
    shutil.copy(workbook("b.xlsx", one=[("a",), ("x",)]), "b.xls")
    assert columns(Path("b.xls")) == {"a": ["x"]}


@pytest.mark.parametrize("dimension", ["", '<dimension ref="A1"/>'], ids=["none", "too small"])
def test_a_workbook_that_tells_a_wrong_size_of_itself_is_read_whole(dimension):
    """As programs other than Excel write it; openpyxl alone believes it."""
    workbook("whole.xlsx", one=[("input", "output"), ("a", "b"), ("c",), ("d", "e")])
    with zipfile.ZipFile("whole.xlsx") as whole, zipfile.ZipFile("a.xlsx", "w") as changed:
        for name in whole.namelist():
            text = whole.read(name)
            changed.writestr(name, re.sub(rb"<dimension[^>]*/>", dimension.encode(), text) if "sheet1" in name else text)
    assert columns(Path("a.xlsx")) == {"input": ["a", "c", "d"], "output": ["b", None, "e"]}


def test_memory_is_in_proportion_to_cells_that_are_there():
    """2,000 rows, each with a cell in the last column: 33 million places, of which openpyxl made objects of 1 GiB."""
    rows = "".join(
        f'<row r="{number}"><c r="A{number}"><v>{number}</v></c><c r="XFD{number}" t="str"><v> </v></c></row>'
        for number in range(2, 2002)
    )
    path = xlsx(f'<row r="1"><c r="A1" t="str"><v>input</v></c></row>{rows}', before='<dimension ref="A1:XFD1048576"/>')
    tracemalloc.start()
    try:
        assert len(columns(path)["input"]) == 2000
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_emoji_letters_from_right_to_left_and_long_cells_are_kept():
    rows = [("input", "output"), ("😀 gut", "مرحبا"), ("word " * 6553 + "ab", "a\nb")]
    assert columns(workbook("a.xlsx", one=rows)) == {"input": ["😀 gut", "word " * 6553 + "ab"], "output": ["مرحبا", "a\nb"]}


def test_wide_tables_keep_the_order_of_their_columns():
    names = tuple(f"c{number}" for number in range(120))
    assert columns(workbook("a.xlsx", one=[names, names[::-1]])) == {name: [names[119 - at]] for at, name in enumerate(names)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"<html>", "a.xlsx is not a spreadsheet that can be read: it is a web page (HTML). Open it in a spreadsheet"),
        ("a.xlsx", b"input,output\na,b\n", "it is plain text. Let its name end in .csv, or in .tsv where tabs are between"),
        ("a.xls", b"PK\x03\x04", "it is damaged, an Office document or a zip archive cut short. Save it as .xlsx once more"),
        ("a.xls", FIXTURE.read_bytes()[:3000], "it is protected by a password, damaged or an old Office document. Save a copy"),
        ("a.xls", FIXTURE.read_bytes()[:512] + b"\x55" * 2000 + FIXTURE.read_bytes()[2512:], "a.xls is damaged ("),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_by_what_it_is(name, content, said):
    Path(name).write_bytes(content)
    with pytest.raises(DataError, match=rf"^TRAIN_DATA=x: .*{re.escape(said)}") as raised:
        columns(Path(name))
    assert "\n" not in str(raised.value)


def test_a_workbook_without_sheets_is_told():
    with pytest.raises(DataError, match=r"no sheet with cells\. Put a header and rows into one\."):
        columns(ods(""))


def test_a_sheet_without_cells_is_told_as_empty():
    with pytest.raises(DataError, match=r"the sheet is empty\. Put a header and rows into it, or set SHEET to another\."):
        columns(workbook("a.xlsx", one=[]))


def test_a_file_that_is_not_there_is_no_damaged_one():
    with pytest.raises(FileNotFoundError):
        columns(Path("a.xlsx"))


def test_the_place_of_the_table_is_the_part_of_its_sheet_and_the_row_of_its_header():
    rows = [("Title",), (), ("a", "b"), ("1", "2"), ("3", "4")]
    path = hide(workbook("a.xlsx", old=[("a",)], new=rows), "old")
    assert table_place("", path, None) == ("xl/worksheets/sheet2.xml", 3)
    assert table_place("", path, "old") == ("xl/worksheets/sheet1.xml", 1)
