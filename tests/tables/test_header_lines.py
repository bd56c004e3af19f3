"""Lines of a text table that are no rows, and texts that stand in formulas."""

import csv
import json
from pathlib import Path

import pytest

from job.tables.delimited import read_delimited
from job.tables.header_lines import lines_below, unwrap

ROWS = [[f"please book room {number} for the team", f"room {number}"] for number in range(1, 11)]


def read(*lines: list[str]) -> tuple[list[tuple], list[int], tuple[str, ...]]:
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    found = read_delimited("TRAIN_DATA=a.csv", Path("a.csv"))
    return list(zip(*found.columns.values(), strict=True)), list(found.numbers), found.notes


def test_the_two_lines_that_qualtrics_puts_below_the_header_are_no_rows():
    header, questions = ["Q1", "Q2"], ["What should be booked?", "What is right?\nIn one word"]
    ids = [json.dumps({"ImportId": name}) for name in ("QID1_TEXT", "QID2")]
    rows, numbers, notes = read(header, questions, ids, *ROWS)
    assert rows == [tuple(row) for row in ROWS]
    assert numbers == list(range(4, 14))
    assert notes == ("a.csv: the header goes on in rows 2, 3, which is left out.",)


@pytest.mark.parametrize("second", [["text", "Antwort"], ["Eingabe", ""]])
def test_a_line_of_units_or_translations_below_the_header_is_no_row(second):
    rows, _, notes = read(["input", "output"], second, *ROWS)
    assert rows == [tuple(row) for row in ROWS]
    assert notes == ("a.csv: the header goes on in row 2, which is left out.",)


def test_a_first_row_whose_words_come_again_is_a_row():
    later = [*ROWS, *ROWS, ["please book what is left for us", "hello"]]
    assert lines_below((1, ["input", "output"]), [(n, row) for n, row in enumerate([["Hi", "hello"], *later], 2)]) == 0
    assert lines_below((1, ["input", "output"]), [(n, row) for n, row in enumerate([["Hi", "hello"], *later[:-1]], 2)]) == 1
    assert lines_below((1, ["input"]), []) == 0


def test_texts_in_formulas_are_taken_out_where_a_whole_column_has_them():
    rows, _, notes = read(['="input"', "code"], ['="say ""007"""', '="007"'], ['=""', "007"], ['="b"', '="8"'])
    assert rows == [('say "007"', '="007"'), (None, "007"), ("b", '="8"')]
    assert notes == ('a.csv: the texts of "input" are taken out of formulas such as ="007".',)
    assert unwrap("=A1") is None


def test_a_byte_order_mark_within_a_file_is_that_of_a_file_put_behind_another():
    part = "input,output\n" + "".join(f'"{first}",{second}\n' for first, second in ROWS)
    Path("a.csv").write_bytes(part.encode("utf-8-sig") + part.encode("utf-8-sig"))
    found = read_delimited("TRAIN_DATA=a.csv", Path("a.csv"))
    assert found.columns["input"] == [first for first, _ in ROWS] * 2
    assert found.notes == ("a.csv: the header stands in row 12 again, which is left out.",)
