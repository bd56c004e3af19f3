"""Where the header of a sheet stands: below titles and empty rows, above a second line of it."""

import re
from collections.abc import Sequence

from job.tables.sheet import NoValue, Sheet, SheetRow

LOOKED_AT = 30
"""Rows in which a header is looked for."""
BENEATH = 10
"""Rows beneath it that are compared with what stands above."""
ENOUGH = 8
"""Rows beneath that it takes to say that a line is unlike them."""
NUMBER = re.compile(r"[-+]?[\d.,:/ -]*\d%?")


def header_index(rows: Sequence[SheetRow], sheet: Sheet) -> int:
    """Index of the header: the row of the sheet's filter; else what stands below a title set apart; else the first row.

    A title is narrower than the header, and most of the rows beneath the header are wider than the title.
    """
    top = rows[:LOOKED_AT]
    for index, row in enumerate(top):
        if row.number == sheet.header and _are_labels(row):
            return index
    width = 0
    for index in range(1, len(top)):
        above, row, beneath = top[:index], top[index], rows[index + 1 : index + 1 + BENEATH]
        width = max(width, _filled(above[-1]))
        wider = sum(_filled(other) > width for other in beneath)
        if _filled(row) > width and wider * 2 > len(beneath) and _are_labels(row) and _is_set_apart(above, row, sheet):
            return index
    return 0


def has_second_line(rows: Sequence[SheetRow], index: int) -> bool:
    """Whether the row below the header at `index` goes on with it: units, translations, types.

    It has one word or two in a cell, which no row beneath has, where those have numbers, or texts more than twice as long.
    """
    header, beneath = rows[index], rows[index + 2 : index + 2 + BENEATH]
    if len(beneath) < ENOUGH or rows[index + 1].number != header.number + 1:
        return False
    line = rows[index + 1].cells
    if set(line) - set(header.cells) or len(line) * 2 < len(header.cells):
        return False
    if any(isinstance(text, NoValue) or re.search(r"\d", text) or len(text.split()) > 2 for text in line.values()):
        return False
    if any(row.cells.get(column) == text for row in rows[index + 2 :] for column, text in line.items()):
        return False
    return any(_differ(text, [row.cells.get(column, "") for row in beneath]) for column, text in line.items())


def _differ(text: str, beneath: list[str]) -> bool:
    """Whether all cells beneath are numbers, or all are far longer."""
    if all(NUMBER.fullmatch(other) for other in beneath):
        return True
    return all(len(other) > 2 * len(text) and len(other.split()) > 2 for other in beneath)


def _filled(row: SheetRow) -> int:
    return sum(not text.isspace() for text in row.cells.values())


def _are_labels(row: SheetRow) -> bool:
    """Whether the cells of a row can be names: short texts, each different, none a number."""
    texts = list(row.cells.values())
    return len(set(texts)) == len(texts) and not any(
        isinstance(text, NoValue) or len(text) > 60 or NUMBER.fullmatch(text) for text in texts
    )


def _is_set_apart(above: Sequence[SheetRow], row: SheetRow, sheet: Sheet) -> bool:
    """Whether rows above a header are a title: an empty row below them, up to three of one cell each, or cells merged across."""
    if above[-1].number + 1 < row.number:
        return True
    across = {first for first, column, last, last_column in sheet.merged if last_column > column and last < row.number}
    return all((_filled(other) == 1 and len(above) <= 3) or other.number in across for other in above)
