"""Each file format gives its cells as they stand, and each damaged file one line that says where."""

import re
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from job.data.file_rows import quoted
from job.data.read import Source, _read_rows
from job.errors import DataError


def read_columns(_where: str, path: Path, sheet: str | None) -> tuple[dict[str, list], int]:
    found = _read_rows(Source("TRAIN_DATA", path.name, sheet), path)
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


def test_a_cell_of_a_csv_is_text_whatever_it_looks_like():
    found, _ = read("a.csv", 'input,output\n007,NA\n" x ","1,5"\n,"two\nlines"\n')
    assert found == {"input": ["007", " x ", ""], "output": ["NA", "1,5", "two\nlines"]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_the_one_that_its_header_has_most_of(delimiter):
    found, _ = read("a.csv", delimiter.join(("a", "b", "c d")) + "\n" + delimiter.join(("1", "2", "x: y")) + "\n")
    assert found == {"a": ["1"], "b": ["2"], "c d": ["x: y"]}


def test_a_tsv_may_have_commas_in_its_header():
    assert read("a.tsv", "a, b, c\td\n1\t2\n")[0] == {"a, b, c": ["1"], "d": ["2"]}


def test_blank_lines_are_no_rows():
    assert read("a.csv", "input,x\n\na,b\n\n")[0] == {"input": ["a"], "x": ["b"]}
    assert read("a.jsonl", '\n{"input": "a"}\n  \n')[0] == {"input": ["a"]}
    assert read("a.txt", "a\n\n  \nb c\r\nd")[0] == {"input": ["a", "b c", "d"]}


def test_what_a_record_of_json_lacks_is_none_and_values_keep_their_types():
    found, _ = read("a.jsonl", '{"a": 1, "b": [2.5]}\n{"b": null, "c": true}\n')
    assert found == {"a": [1, None], "b": [[2.5], None], "c": [None, True]}


def test_the_rows_of_a_json_object_are_its_first_list():
    assert read("a.json", '{"name": "x", "rows": [{"a": 1}], "more": [{"a": 2}]}')[0] == {"a": [1]}


def test_text_keeps_its_line_separators_and_loses_its_byte_order_mark():
    text = "one\u2028two\x85three"
    assert read("a.jsonl", "\ufeff" + f'{{"input": "{text}"}}\n')[0] == {"input": [text]}


def test_a_sheet_is_chosen_by_its_name_and_is_else_the_first():
    path = workbook("a.xlsx", first=[("a",), ("x",)], second=[("a",), ("y",)])
    assert read_columns("", path, None)[0] == {"a": ["x"]}
    assert read_columns("", path, "second")[0] == {"a": ["y"]}
    with pytest.raises(
        DataError, match=r'^TRAIN_DATA=a.xlsx: no sheet "third"; found "first", "second". Set SHEET to one of them.$'
    ):
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
        ("a.csv", "a,b\n1,2\n3\n", "row 3 has 1 cells, the header has 2. Put text that contains the delimiter"),
        ("a.csv", "\na,b\n", "no header. Put the names of the columns into the first row."),
        ("a.csv", 'a,b\n1,2\n"3,4\n', "Check the double quotes there."),
        ("a.csv", "a,b,a\n", 'two columns are named "a". Rename one of them.'),
        ("a.txt", b"one\ntwo\xe9\n", 'line 2 is not UTF-8 (byte 0xe9). Save the file as UTF-8; Excel calls it "CSV UTF-8".'),
        ("a.jsonl", '{"a": 1}\n\n{"a": }\n', "line 3, character 7: invalid JSON (Expecting value). Fix that line."),
        ("a.json", '[\n{"a": 1},\n{"a" 2}\n]', "line 3, character 6: invalid JSON"),
        ("a.jsonl", "[" * 100_000, "line 1: JSON nested too deeply. Flatten it."),
        ("a.jsonl", '{"a": 1}\n[2]\n', "row 2 is not an object."),
        ("a.json", '{"a": "b"}', "a list of objects was expected"),
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


def test_names_are_quoted_with_commas_between():
    assert quoted(["a", "b c"]) == '"a", "b c"'
