"""What separates the cells, and how they are quoted, as the rows say and not the header alone."""

import csv
import io

import pytest

from job.tables.layout import WHOLE_LINE, find_layout, is_table

ROWS = [["a, b", "c;d", "e\tf"], ['say "hi"', "1,5", "x|y"], ["two\nlines", "", "z"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("how", [{}, {"doublequote": False, "escapechar": "\\"}, {"quoting": csv.QUOTE_ALL}])
def test_what_pythons_own_writer_writes_is_read_back_with_any_delimiter_even_one_that_the_header_has_others_of(delimiter, how):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, **how).writerows(ROWS)
    layout = find_layout(file.getvalue(), ".csv")
    assert layout.delimiter == delimiter
    if "escapechar" not in how:
        assert list(layout.rows(file.getvalue())) == ROWS


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("input, the question;output\nwho, when and why;me\n", ";"),
        ("Preis;Name\n1,50;a\n2,50;b\n", ";"),
        ("sep=|\na,b|c\n", "|"),
        ('"sep=;"\r\na;b\r\n', ";"),
        ("input\nhello, world\nbye\n", WHOLE_LINE),
        ("input\n1\n2\n", WHOLE_LINE),
        ("Export\na,b\n1,2\n3,4\n", ","),
        ("a,b\n", ","),
        ("", ","),
    ],
)
def test_the_delimiter_is_the_one_that_gives_all_rows_as_many_cells_as_the_header(text, delimiter):
    assert find_layout(text, ".csv").delimiter == delimiter


def test_a_row_that_is_longer_than_what_is_looked_at_does_not_confuse():
    text = "a;b\n" + "x, y;z\n" * 5 + "1;" + "long, " * 300_000 + "\n"
    assert find_layout(text, ".csv").delimiter == ";"


def test_a_tsv_has_tabs_where_its_header_has_one():
    assert find_layout("a, b, c\td\n1, 2, 3\t4\n", ".tsv").delimiter == "\t"
    assert find_layout("a,b\n1,2\n", ".tsv").delimiter == ","


def test_spaces_behind_delimiters_are_no_part_of_cells_where_quotes_follow_them():
    text = 'a, b\n"x", "y, z"\n'
    assert list(find_layout(text, ".csv").rows(text)) == [["a", "b"], ["x", "y, z"]]


def test_quotes_are_text_where_they_would_join_lines_of_tabs_that_are_rows_each():
    text = 'a\tb\n"x\t1\ny"\t2\n'
    assert list(find_layout(text, ".tsv").rows(text)) == [["a", "b"], ['"x', "1"], ['y"', "2"]]
    quoted = 'a\tb\n"x\ny"\t2\n'
    assert list(find_layout(quoted, ".tsv").rows(quoted)) == [["a", "b"], ["x\ny", "2"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input\toutput\na\tb\n", True),
        ("input\toutput\na\tb\nc\n", True),
        ("input,output\na,b\n", True),
        ("sep=;\na;b\n", True),
        ("Hello, you\nBye, you\n", False),
        ("Hello\nBye, you\n", False),
        ("a,b\n", False),
        ("", False),
    ],
)
def test_a_txt_is_a_table_if_all_its_lines_have_cells(text, expected):
    assert is_table(text) is expected
