"""The cells of an .ods file, as LibreOffice and Google Sheets write it."""

import re
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element, iterparse

from job.tables.cell_format import moment_text, number_text
from job.tables.sheet import CELL_LETTERS, LAST_COLUMN, LAST_ROW, NOT_COMPUTED, NoValue, Sheet, SheetRow

DURATION = re.compile(r"(-?)P(?:(\d+)D)?T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?")


@contextmanager
def open_ods(path: Path) -> Iterator[list[Sheet]]:
    """The sheets of an .ods file. Damage shows as nearly any exception, here or while the rows are gone through."""
    found = []
    with zipfile.ZipFile(path) as archive, ExitStack() as to_be_closed:
        for index, (name, hidden) in enumerate(_entries(archive)):
            sheet = Sheet(name, hidden, iter(()))
            sheet.rows = to_be_closed.enter_context(closing(_rows(archive, index, sheet)))
            found.append(sheet)
        yield found


def _entries(archive: zipfile.ZipFile) -> list[tuple[str, bool]]:
    """Name of each sheet, and whether it is hidden, which its style says."""
    found, hidden_styles, style, depth = [], set(), "", 0
    for event, element in _events(archive):
        name = _tag(element)
        if event == "start" and name == "style":
            style = _get(element, "name")
        elif event == "start" and name == "table-properties" and _get(element, "display") == "false":
            hidden_styles.add(style)
        elif event == "start" and name == "table":
            depth += 1
            if depth == 1:
                found.append((_get(element, "name"), _get(element, "style-name") in hidden_styles))
        elif event == "end" and name in ("table", "table-row"):
            depth -= name == "table"
            element.clear()
    return found


def _rows(archive: zipfile.ZipFile, index: int, sheet: Sheet) -> Generator[SheetRow]:
    """The rows of the sheet at `index`. A table in a cell of it is part of that cell."""
    number, depth, table = 1, 0, -1
    for event, element in _events(archive):
        name = _tag(element)
        if event == "start":
            depth += name == "table"
            table += name == "table" and depth == 1
        elif name == "table":
            depth -= 1
            if depth == 0 and table == index:
                return
        elif name == "table-row" and depth == 1:
            if table == index:
                repeated = int(_get(element, "number-rows-repeated") or 1)
                yield from _repeated(number, repeated, element, sheet)
                number += repeated
            element.clear()


def _repeated(number: int, repeated: int, row: Element, sheet: Sheet) -> Iterator[SheetRow]:
    cells = _cells(number, row, sheet)
    if not cells:
        return
    if number + repeated - 1 > LAST_ROW:
        raise ValueError(f"row {number} repeated {repeated} times")
    for copy in range(repeated):
        yield SheetRow(number + copy, cells, hidden=_get(row, "visibility") in ("filter", "collapse"))


def _cells(number: int, row: Element, sheet: Sheet) -> dict[int, str]:
    cells: dict[int, str] = {}
    column = 0
    for element in row:
        if _tag(element) not in ("table-cell", "covered-table-cell"):
            continue
        repeated = int(_get(element, "number-columns-repeated") or 1)
        if text := _text(element):
            if column + repeated > LAST_COLUMN:
                raise ValueError(f"row {number} has a cell repeated {repeated} times")
            cells.update(dict.fromkeys(range(column, column + repeated), text))
        rows, columns = (int(_get(element, f"number-{what}-spanned") or 1) for what in ("rows", "columns"))
        if rows > 1 or columns > 1:
            sheet.merged.append((number, column, number + rows - 1, column + columns - 1))
        column += repeated
    return cells


def _text(cell: Element) -> str:
    kind = _get(cell, "value-type")
    if any(value == "error" for name, value in cell.items() if name.endswith("value-type")):
        return NoValue(_paragraphs(cell) or "#ERROR")
    if not kind and _get(cell, "formula"):
        return NOT_COMPUTED
    if kind in ("float", "currency"):
        return number_text(float(_get(cell, "value")))
    if kind == "percentage":
        return number_text(float(_get(cell, "value")), "0%")
    if kind == "date":
        return moment_text(datetime.fromisoformat(_get(cell, "date-value")).replace(microsecond=0))
    if kind == "time":
        return _time(_get(cell, "time-value"))
    if kind == "boolean":
        return "TRUE" if _get(cell, "boolean-value") == "true" else "FALSE"
    return _paragraphs(cell)


def _time(duration: str) -> str:
    """14:30:00 for PT14H30M00S."""
    found = DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(f"no time: {duration[:20]}")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups()[1:])
    total = round(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    return f"{found[1]}{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def _paragraphs(cell: Element) -> str:
    return "\n".join(_inline(child) for child in cell if _tag(child) == "p")


def _inline(element: Element) -> str:
    """The text of a paragraph, without comments and the readings of East Asian words."""
    pieces = [element.text or ""]
    for child in element:
        name = _tag(child)
        if name == "s":
            pieces.append(" " * min(int(_get(child, "c") or 1), CELL_LETTERS))
        elif name in ("tab", "line-break"):
            pieces.append("\t" if name == "tab" else "\n")
        elif name not in ("annotation", "ruby-text"):
            pieces.append(_inline(child))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _events(archive: zipfile.ZipFile) -> Iterator[tuple[str, Element]]:
    with archive.open("content.xml") as file:
        yield from iterparse(file, events=("start", "end"))


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _get(element: Element, attribute: str) -> str:
    """The value of an attribute of whatever namespace, "" where there is none."""
    return next((value for name, value in element.items() if name.rpartition("}")[2] == attribute), "")
