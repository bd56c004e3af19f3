"""Lines of a text table that go on with its header, and texts that a formula wraps."""

import re
from collections.abc import Sequence

from job.tables.sheet import SheetRow
from job.tables.sheet_header import BENEATH, has_second_line

Numbered = list[tuple[int, list[str]]]
"""Rows with their numbers."""
WRAPPED = re.compile(r'="((?:[^"]|"")*)"')
"""A text as programs write it so that Excel shows 007 and not 7: a formula whose value it is."""


def lines_below(header: tuple[int, list[str]], rows: Numbered) -> int:
    """How many of the first `rows` go on with the header: Qualtrics' two, one with units or translations.

    Qualtrics puts the questions below the header, and below them what it calls each: {"ImportId":"QID1_TEXT"}.
    """
    for count, (_, row) in enumerate(rows[:2], 1):
        if any(row) and all(not cell or re.match(r'\s*{"ImportId"', cell) for cell in row):
            return count
    top = [SheetRow(number, _filled(row)) for number, row in [header, *rows[: BENEATH + 1]]]
    if not has_second_line(top, 0):
        return 0
    return int(not any(row[place : place + 1] == [text] for _, row in rows[1:] for place, text in top[1].cells.items()))


def _filled(row: Sequence[str]) -> dict[int, str]:
    return {column: cell for column, cell in enumerate(row) if cell.strip()}


def unwrap(cell: str) -> str | None:
    """The text that a formula wraps; None where `cell` is no such formula."""
    found = WRAPPED.fullmatch(cell.strip())
    return found and found[1].replace('""', '"')


def unwrapped(rows: Numbered, place: int) -> bool:
    """Takes the texts of a column out of their formulas, where all of its cells are such; whether they were."""
    texts = [(row, unwrap(row[place])) for _, row in rows if place < len(row) and row[place].strip()]
    if not texts or any(text is None for _, text in texts):
        return False
    for row, text in texts:
        row[place] = text or ""
    return True
