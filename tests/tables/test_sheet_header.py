"""The header of a sheet is found where a person would see it."""

import pytest

from job.tables.sheet import Sheet, SheetRow
from job.tables.sheet_header import has_second_line, header_index

ROWS = [(f"please book room {number} for me", f"room {number}") for number in range(1, 11)]
HEADER = ("input", "output")


def made(*rows: tuple, **known: object) -> tuple[list[SheetRow], Sheet]:
    """Rows with their cells, numbered from 1; an empty one leaves a gap."""
    numbered = [
        SheetRow(number, {column: str(text) for column, text in enumerate(row) if text is not None})
        for number, row in enumerate(rows, 1)
        if row
    ]
    return numbered, Sheet("one", hidden=False, rows=iter(()), **known)


def header_number(*rows: tuple, **known: object) -> int:
    numbered, sheet = made(*rows, **known)
    return numbered[header_index(numbered, sheet)].number


@pytest.mark.parametrize(
    ("above", "known"),
    [
        ([("Bookings of March",)], {}),
        ([("Bookings of March",), ()], {}),
        ([("Company",), ("Bookings",), ("March",)], {}),
        ([("Company",), ("Bookings",), (None, "March"), ("in Ulm",), ()], {}),
        ([("Texts", None)], {"merged": [(1, 0, 1, 1)]}),
        ([(), (), ()], {}),
    ],
)
def test_titles_and_empty_rows_above_the_header_are_passed(above, known):
    assert header_number(*above, HEADER, *ROWS, **known) == len(above) + 1


def test_a_line_of_merged_cells_groups_the_names_below_it():
    rows = [("Texts", None, "Meta"), ("input", "output", "id"), *((*row, "x1") for row in ROWS)]
    assert header_number(*rows, merged=[(1, 0, 1, 1)]) == 2
    assert header_number(*rows) == 1, "not merged, it is a header with a gap"


def test_notes_of_two_cells_above_an_empty_row_are_passed():
    rows = [("Author", "Anna"), ("Date", "2026-03-01"), (), ("input", "output", "id"), *((*row, "x1") for row in ROWS)]
    assert header_number(*rows) == 4


def test_the_header_is_where_the_filter_stands():
    rows = [("Author", "Anna"), ("Date", "2026-03-01"), HEADER, *ROWS]
    assert header_number(*rows, header=3) == 3
    assert header_number(*rows, header=99) == 1


@pytest.mark.parametrize(
    "rows",
    [
        [HEADER, *ROWS],
        [HEADER, *ROWS[:3], (), *ROWS[3:]],
        [("input",), ("one",), ("two", "a remark"), ("three",), ("four",), ("five",)],
        [("input",), ("one",), (), ("two", "a remark"), ("three",)],
        [("input",), ("one",), (), ("two",)],
        [("input",), (), ("1", "2"), ("3", "4")],
        [("input", "output"), ("a", "b", "remark"), ("c", "d"), ("e", "f")],
        [("input",)],
    ],
)
def test_a_first_row_that_is_the_header_stays_it(rows):
    assert header_number(*rows) == 1


@pytest.mark.parametrize("line", [("(text)", "(label)"), ("Eingabe", "Ausgabe"), ("string", "string"), ("Eingabe", None)])
def test_a_line_of_words_above_longer_texts_goes_on_with_the_header(line):
    rows, _ = made(HEADER, line, *ROWS)
    assert has_second_line(rows, 0)


def test_a_word_above_numbers_is_a_unit():
    rows, _ = made(("name", "price"), ("text", "EUR"), *((name, number) for number, name in enumerate("abcdefghi", 1)))
    assert has_second_line(rows, 0)


@pytest.mark.parametrize(
    "rows",
    [
        [HEADER, *ROWS],
        [HEADER, ("Hi", "Hello"), *ROWS[:3]],
        [HEADER, ("Hi", "Hello"), ("Bye", "Goodbye"), *ROWS],
        [HEADER, (), ("Eingabe", "Ausgabe"), *ROWS],
        [HEADER, ("Room 1", "Hello"), *ROWS],
        [HEADER, ("Thanks", "polite"), *((text, "polite" if "7" in text else "order") for text, _ in ROWS)],
        [HEADER, ("Eingabe", "Ausgabe", "more"), *ROWS],
        [HEADER, *(("good film", "positive"), ("bad film", "negative")) * 5],
        [HEADER],
    ],
)
def test_a_first_row_that_is_data_is_no_line_of_the_header(rows):
    assert not has_second_line(made(*rows)[0], 0)
