"""The look on a terminal: never wider than 100 columns, every character kept, no colour unless it is wanted."""

import re
from dataclasses import replace

import pytest

from job.publish.data_page import DataPage, ShownRow, Table
from job.publish.data_terminal import FIRST_LINES, LAST_LINES, WIDTH, columns, cut, terminal_lines, wrap

PAGE = DataPage(
    "mine", "80 training rows, 20 held out", ("w " * 90,), (("training data", "mine.csv: 100 rows"), ("note", "n" * 250)),
    (Table("Answers", ("", "rows", "share"), (("yes" * 40, "70", "87.5 %"), ("日本" * 30, "10", "12.5 %"))),),
    (ShownRow("row 2", (("reads", "Input: a\nb</s>"), ("writes", "c</s>"))),),
)  # fmt: skip


def test_no_line_is_wider_than_100_columns():
    lines = list(terminal_lines(PAGE, colour=False))
    assert 90 < max(map(columns, lines)) <= WIDTH == 100
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_what_is_read_and_what_is_written_stand_beside_each_other_with_their_line_breaks():
    lines = list(terminal_lines(PAGE, colour=False))
    assert lines[-4:] == ["row 2", "  reads   Input: a⏎", "          b</s>", "  writes  c</s>"]
    assert "  training data  mine.csv: 100 rows" in lines


def test_colours_change_no_text():
    plain, coloured = list(terminal_lines(PAGE, colour=False)), list(terminal_lines(PAGE, colour=True))
    assert coloured != plain
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain


def test_a_row_cannot_move_the_cursor():
    evil = replace(PAGE, rows=(ShownRow("row 2", (("reads", "\x1b[2J\x1b]0;title\x07"),)),))
    assert list(terminal_lines(evil, colour=False))[-1] == r"  reads   \x1b[2J\x1b]0;title\x07"


@pytest.mark.parametrize("extra", [1, 2, 40])
def test_the_ends_of_a_long_piece_are_shown(extra):
    count = FIRST_LINES + LAST_LINES + extra
    text = "\n".join(f"line {number}" for number in range(count))
    lines = [line.strip() for line in terminal_lines(replace(PAGE, rows=(ShownRow("row 2", (("writes", text),)),)), colour=False)]
    assert (f"… {extra} lines are not shown …" in lines) is (extra > 1)
    assert lines[-1] == f"line {count - 1}"
    assert (f"line {FIRST_LINES}⏎" in lines) is (extra == 1)


def test_a_page_with_nothing_but_rows_counted_has_a_line():
    assert list(terminal_lines(DataPage("r", "1 row", (), (), (), ()), colour=False)) == ["r: 1 row"]


@pytest.mark.parametrize(
    "text", ["a few words and some more", "x" * 35, "日本語" * 9, "a\n\nb", "", "é" * 30, "word " * 9, "👨\u200d👩" * 12]
)
def test_wrapping_keeps_every_character_and_the_width(text):
    lines = wrap(text, 10)
    assert "".join(lines) == text.replace("\n", "")
    assert max(map(columns, lines)) <= 10


def test_lines_break_behind_spaces_where_there_are_some():
    assert wrap("one two three four", 10) == ["one two ", "three four"]


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 5, "日本…"), ("日本語", 4, "日…")]
)
def test_what_is_cut_says_so(text, width, shown):
    assert cut(text, width) == shown


@pytest.mark.parametrize(("text", "taken"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("a\u200cb", 2), ("नमस्ते", 4)])
def test_columns_are_those_of_a_terminal(text, taken):
    assert columns(text) == taken
