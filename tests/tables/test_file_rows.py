"""Each file format gives its cells as they stand, and each damaged file one line that says where."""

import re
from pathlib import Path

import pytest

from job.errors import DataError
from job.tables.delimited import read_delimited, read_text
from job.tables.file_rows import distinct, first_of, printable, quoted, rows_of
from job.tables.json_rows import read_json
from job.tables.workbook import read_workbook
from tests.tables.made_workbooks import workbook


def read_columns(_where: str, path: Path, sheet: str | None) -> tuple[dict[str, list], int]:
    readers = {".csv": read_delimited, ".tsv": read_delimited, ".txt": read_text, ".json": read_json, ".jsonl": read_json}
    where = f"TRAIN_DATA={path.name}"
    found = readers[path.suffix](where, path) if path.suffix in readers else read_workbook(where, path, sheet)
    return found.columns, found.numbers[0]


def read(name: str, content: str | bytes, sheet: str | None = None) -> tuple[dict[str, list], int]:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_columns(f"TRAIN_DATA={name}", Path(name), sheet)


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


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '"b"', "a list of objects was expected"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_with_the_place(name, content, said):
    with pytest.raises(DataError, match=rf"^TRAIN_DATA={name}: .*{re.escape(said)}"):
        read(name, content)


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


def test_of_many_rows_the_first_are_named_and_the_others_counted():
    assert (rows_of([5]), rows_of([5, 6, 7]), rows_of([5, 6, 7, 9, 11], most=4)) == (
        "row 5", "rows 5, 6, 7", "rows 5, 6, 7, 9 and 1 more",
    )  # fmt: skip
    assert first_of(range(5)) == "0, 1, 2, 3, 4"
    assert first_of(range(1_239), lambda index: f"b.csv row {index}", most=1) == "b.csv row 0 and 1,238 more"
    assert first_of([]) == ""
