"""The cells of an .xlsx sheet, as they come in the file: their places are taken from them, whatever size the sheet claims."""

import math
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

from openpyxl.utils import column_index_from_string

from job.tables.cell_format import moment_text, number_text
from job.tables.sheet import NOT_COMPUTED, NoValue, Sheet, SheetRow
from job.tables.xlsx_parts import XlsxParts, tag, text_of, unescape

PLACE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{1,7})")
LONG = re.compile(r"-?\d{16,}")
"""A whole number with more digits than a spreadsheet program can show: a program wrote it, and it stays as written."""


@contextmanager
def open_xlsx(path: Path) -> Iterator[list[Sheet]]:
    """The sheets of an .xlsx or .xlsm file. Damage shows as nearly any exception, here or while the rows are gone through."""
    parts, found = XlsxParts(path), []
    with parts.archive, ExitStack() as to_be_closed:
        for entry in parts.sheets():
            sheet = Sheet(entry.name, entry.hidden, iter(()), part=parts.names[entry.part.lower()])
            sheet.rows = to_be_closed.enter_context(closing(_rows(parts, entry.part, sheet)))
            found.append(sheet)
        yield found


def _rows(parts: XlsxParts, part: str, sheet: Sheet) -> Generator[SheetRow]:
    tables = parts.tables(part)
    if len(tables) == 1:
        (where, has_totals), *_ = tables
        sheet.header, _, last, _ = block(where)
        sheet.totals = last if has_totals else None
    number = 0
    for element in parts.elements(part, "row", "mergeCell", "autoFilter"):
        name = tag(element)
        if name == "row":
            number = int(element.get("r", number + 1))
            if cells := _cells(parts, element):
                yield SheetRow(number, cells, hidden=element.get("hidden") in ("1", "true"))
        elif name == "mergeCell":
            sheet.merged.append(block(element.attrib["ref"]))
        elif sheet.header is None:
            sheet.header = block(element.attrib["ref"])[0]


def block(reference: str) -> tuple[int, int, int, int]:
    """First row, first column, last row, last column of A1:B2."""
    first, _, last = reference.partition(":")
    (row, column), (last_row, last_column) = cell_place(first), cell_place(last or first)
    return row, column, last_row, last_column


def cell_place(reference: str) -> tuple[int, int]:
    """Row, from 1, and column, from 0, of B2."""
    found = PLACE.fullmatch(reference)
    if found is None:
        raise ValueError(f"no cell is called {reference[:20]}")
    return int(found[2]), column_index_from_string(found[1]) - 1


def _cells(parts: XlsxParts, row: Element) -> dict[int, str]:
    cells, column = {}, -1
    for element in row:
        if tag(element) != "c":
            continue
        reference = element.get("r")
        column = column + 1 if reference is None else cell_place(reference)[1]
        if text := _text(parts, element):
            cells[column] = text
    return cells


def _text(parts: XlsxParts, cell: Element) -> str | None:
    children = {tag(child): child for child in cell}
    kind, value = cell.get("t", "n"), children["v"].text if "v" in children else None
    if kind == "inlineStr":
        return text_of(children["is"]) if "is" in children else None
    if "f" in children and kind != "str" and (not value or (value == "0" and parts.to_be_computed)):
        return NOT_COMPUTED
    if not value:
        return None
    if kind == "s":
        return parts.shared_texts[int(value)]
    if kind == "str":
        return unescape(value)
    if kind == "b":
        return "TRUE" if value.strip() in ("1", "true") else "FALSE"
    if kind == "e":
        return NoValue(value)
    if kind == "d":
        return moment_text(datetime.fromisoformat(value).replace(microsecond=0, tzinfo=None))  # SheetJS writes Z behind local time
    return _number(parts, value.strip(), int(cell.get("s", 0)))


def _number(parts: XlsxParts, value: str, style: int) -> str:
    if LONG.fullmatch(value):
        return value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return unescape(value)  # no number though the file calls it one: as it stands
    number_format = parts.formats[style] if 0 <= style < len(parts.formats) else "General"
    return number_text(number, number_format, parts.from_1904)
