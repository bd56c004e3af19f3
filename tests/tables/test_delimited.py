"""Text tables as programs write them, and what a person is told of them."""

from pathlib import Path

import pytest

from job.errors import DataError
from job.tables.delimited import open_text, read_delimited, read_text
from job.tables.file_rows import FileRows

BACKSLASHES = 'a.csv: quotes within cells are written \\" there.'


def read(content: str | bytes, name: str = "a.csv") -> FileRows:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return (read_text if name.endswith((".txt", ".dat")) else read_delimited)(f"TRAIN_DATA={name}", Path(name))


def test_a_cell_is_text_whatever_it_looks_like_and_none_where_it_is_empty():
    found = read('input,output\n007,NA\n" x ","1,5"\n,"two\nlines"\n')
    assert found.columns == {"input": ["007", " x ", None], "output": ["NA", "1,5", "two\nlines"]}


def test_rows_are_numbered_as_a_spreadsheet_shows_them():
    assert list(read('a,b\n"two\nlines",1\n\n,\nc,2\n').numbers) == [2, 5]
    assert list(read("\n\na,b\n1,2\n").numbers) == [4]
    assert list(read("sep=;\na;b\n1;2\n").numbers) == [2]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_on_any_system(end):
    assert read(end.join(["a,b", "1,2", "3,4", ""])).columns == {"a": ["1", "3"], "b": ["2", "4"]}


@pytest.mark.parametrize(
    ("content", "columns", "note"),
    [
        ("a;b\n1;2\n", {"a": ["1"], "b": ["2"]}, "a.csv: the cells are separated by semicolons."),
        ('a,b\n"say \\"x, y\\"",r\n', {"a": ['say "x, y"'], "b": ["r"]}, BACKSLASHES),
        ('a,b\n"C:\\dir \\"x\\"",r\n', {"a": ['C:\\dir "x"'], "b": ["r"]}, BACKSLASHES),
        ('a,b\n"C:\\\\dir \\"x\\"",r\n', {"a": ['C:\\dir "x"'], "b": ["r"]}, BACKSLASHES),
        ("input\nhi, you\nbye\n", {"input": ["hi, you", "bye"]}, "a.csv: one column; commas and other delimiters in it are text."),
        ("a,b\n1\n2,3\n", {"a": ["1", "2"], "b": [None, "3"]}, "a.csv: cells are missing at the end of row 2, and count as empty."),
        (",a\n0,x\n", {"A": ["0"], "a": ["x"]}, 'a.csv: column 1 has no name, and is called "A".'),
        ("a,b\n1,2\na,b\n3,4\n", {"a": ["1", "3"], "b": ["2", "4"]}, "a.csv: the header stands in row 3 again, which is left out."),
        ("a\n\xfcber\n".encode("latin-1"), {"a": ["über"]}, "a.csv is not UTF-8; read as cp1252"),
    ],
)
def test_what_is_unusual_is_read_and_told(content, columns, note):
    found = read(content)
    assert found.columns == columns
    assert any(told.startswith(note) for told in found.notes)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('a,b\n5" pipe,x\n', {"a": ['5" pipe'], "b": ["x"]}),
        ('a,b\n"C:\\",x\n', {"a": ["C:\\"], "b": ["x"]}),
        ("a,b,,\n1,2,,\n,,,\n", {"a": ["1"], "b": ["2"]}),
        ("a,b\n1,2,,,\n", {"a": ["1"], "b": ["2"]}),
        ("Summary,Comment,Comment\nx,,y\n", {"Summary": ["x"], "Comment": [None], "Comment (2)": ["y"]}),
        (" a ,\ufeffb\n1,2\n", {"a": ["1"], "b": ["2"]}),
        ("a,b\n", {"a": [], "b": []}),
        ("a,b\n1,2\n\x1a", {"a": ["1"], "b": ["2"]}),
    ],
)
def test_what_spreadsheet_programs_leave_behind_is_no_fault_and_not_worth_a_word(content, columns):
    found = read(content)
    assert (found.columns, found.notes) == (columns, ())
    assert list(found.unusable) == (["Comment"] if "Comment" in columns else [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n\n1,2,3\n1,,,4\n", "row 4 and 1 more have 3 cells, the header has 2. Put text that contains the delimiter"),
        ("a,b,,\n1,2,3,\n", "row 2 has 3 cells, the header has 2."),
        ('a,b\n1,2\n"3,4\n', "row 3: a double quote opens a cell and none closes it. Check the double quotes there."),
        ('a,b\n1,2\n"x" y,4\n', "row 3: ',' expected after '\"'. Check the double quotes there."),
        ("Export of May\na,b\n1,2\n3,4\n", 'row 1 ("Export of May") is no header: the rows below have 2 cells. Delete what'),
        (" \n,,\n", "a.csv is blank. Put a header and some rows into it."),
    ],
)
def test_what_cannot_be_read_is_told_with_the_row(content, said):
    with pytest.raises(DataError) as caught:
        read(content)
    assert str(caught.value).startswith(f"TRAIN_DATA=a.csv: {said}")


@pytest.mark.parametrize("name", ["a.txt", "a.dat"])
def test_a_text_file_is_a_table_or_a_line_a_row_and_which_is_told(name):
    table = read("input\toutput\nx\ty\n".encode("utf-16"), name)
    assert table.columns == {"input": ["x"], "output": ["y"]}
    assert table.notes == (f"{name}: the cells are separated by tabs.",)
    lines = read("a\n\n  \nb, c\r\nd", name)
    assert (lines.columns, list(lines.numbers)) == ({"input": ["a", "b, c", "d"]}, [1, 4, 5])
    assert lines.notes == (f'{name}: no table; each line is a row of the column "input".',)


def test_text_of_other_formats_is_decoded_as_well():
    Path("a.jsonl").write_bytes('{"a": "ü"}\n'.encode("utf-16"))
    assert open_text("", Path("a.jsonl")).read() == '{"a": "ü"}\n'
