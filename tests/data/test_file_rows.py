"""Each file format gives its cells as they stand, and each damaged file one line that says where."""

import re
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from job.data.delimited import read_delimited, read_text
from job.data.file_rows import distinct, printable, quoted
from job.data.json_rows import read_json
from job.data.workbook import read_workbook
from job.errors import DataError


def read_columns(_where: str, path: Path, sheet: str | None) -> tuple[dict[str, list], int]:
    readers = {".csv": read_delimited, ".tsv": read_delimited, ".txt": read_text, ".json": read_json, ".jsonl": read_json}
    where = f"TRAIN_DATA={path.name}"
    found = readers[path.suffix](where, path) if path.suffix in readers else read_workbook(where, path, sheet)
    return found.columns, found.numbers[0]


def read(name: str, content: str | bytes, sheet: str | None = None) -> tuple[dict[str, list], int]:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_columns(f"TRAIN_DATA={name}", Path(name), sheet)


def workbook(name: str, **sheets: list[tuple]) -> Path:
    book = Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(name)
    return Path(name)


def test_the_first_row_is_two_behind_a_header_and_one_without():
    assert read("a.csv", "input\nx\n") == ({"input": ["x"]}, 2)
    assert read("a.tsv", "input\nx\n") == ({"input": ["x"]}, 2)
    assert read("a.jsonl", '{"input": "x"}\n') == ({"input": ["x"]}, 1)
    assert read("a.json", '[{"input": "x"}]') == ({"input": ["x"]}, 1)
    assert read("a.txt", "x\n") == ({"input": ["x"]}, 1)
    assert read_columns("", workbook("a.xlsx", one=[("input",), ("x",)]), None) == ({"input": ["x"]}, 2)


def test_blank_lines_are_no_rows():
    assert read("a.jsonl", '\n{"input": "a"}\n  \n')[0] == {"input": ["a"]}


def test_text_keeps_its_line_separators_and_loses_its_byte_order_mark():
    text = "one\u2028two\x85three"
    assert read("a.jsonl", "\ufeff" + f'{{"input": "{text}"}}\n')[0] == {"input": [text]}


def test_a_sheet_is_chosen_by_its_name_and_is_else_the_first():
    path = workbook("a.xlsx", first=[("a",), ("x",)], second=[("a",), ("y",)])
    assert read_columns("", path, None)[0] == {"a": ["x"]}
    assert read_columns("", path, "second")[0] == {"a": ["y"]}
    with pytest.raises(DataError, match=r'^TRAIN_DATA=a.xlsx: no sheet "third"; found "first", "second". Set SHEET to one of'):
        read_columns("X=a.xlsx", path, "third")


def test_empty_rows_at_the_end_of_a_sheet_are_no_rows_and_those_within_are():
    path = workbook("a.xlsx", one=[("a", "b"), ("x", 1), (), ("y", None), (None, None)])
    path_of_formats = workbook("b.xlsx", one=[("a", "b"), (None, None), ("x", "y")])
    assert read_columns("", path, None)[0] == {"a": ["x", None, "y"], "b": [1, None, None]}
    assert read_columns("", path_of_formats, None)[0] == {"a": [None, "x"], "b": [None, "y"]}


@pytest.mark.parametrize("dimension", ["", '<dimension ref="A1"/>'], ids=["none", "too small"])
def test_a_workbook_that_tells_a_wrong_size_of_itself_is_read_whole(dimension):
    """As programs other than Excel write it; openpyxl alone believes it."""
    workbook("whole.xlsx", one=[("input", "output"), ("a", "b"), ("c",), ("d", "e")])
    with zipfile.ZipFile("whole.xlsx") as whole, zipfile.ZipFile("a.xlsx", "w") as changed:
        for name in whole.namelist():
            text = whole.read(name)
            changed.writestr(name, re.sub(rb"<dimension[^>]*/>", dimension.encode(), text) if "sheet1" in name else text)
    assert read_columns("", Path("a.xlsx"), None)[0] == {"input": ["a", "c", "d"], "output": ["b", None, "e"]}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", "no zip", "a.xlsx is not an .xlsx file (File is not a zip file). Save it as xlsx once more."),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_with_the_place(name, content, said):
    with pytest.raises(DataError, match=rf"^TRAIN_DATA={name}: .*{re.escape(said)}"):
        read(name, content)


def test_a_sheet_without_cells_is_told_as_empty():
    with pytest.raises(DataError, match=r"the sheet is empty\. Put a header and rows into it, or set SHEET to another\."):
        read_columns("TRAIN_DATA=a.xlsx", workbook("a.xlsx", one=[]), None)


def test_a_file_that_is_not_there_is_no_damaged_one():
    with pytest.raises(FileNotFoundError):
        read_columns("TRAIN_DATA=a.xlsx", Path("a.xlsx"), None)


def test_a_name_that_two_columns_have_gets_a_number():
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
    assert distinct(["a", "a", "a (2)"]) == ["a", "a (3)", "a (2)"]


def test_names_are_quoted_with_commas_between():
    assert quoted(["a", "b c"]) == '"a", "b c"'
    assert quoted(["a\nb"]) == '"a\\nb"'


def test_a_name_is_printed_on_one_line_and_not_at_any_length():
    assert printable("a\nb\x1b[31m\udcff.csv") == "a\\nb\\x1b[31m\\udcff.csv"
    assert printable("grüße 你好.csv") == "grüße 你好.csv"
    assert len(printable("x" * 5000)) == 203
