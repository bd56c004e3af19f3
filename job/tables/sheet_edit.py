"""A workbook with further columns: cells are put into the XML of one sheet, and all else stays byte for byte.

So formulas and their values, charts, images, pivot tables, macros and formats stay, of which openpyxl would lose some.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers.expat import ParserCreate
from xml.sax.saxutils import escape

from openpyxl.utils import get_column_letter

from job.errors import OutputError
from job.tables.added_columns import AddedColumns, Cell, Notes
from job.tables.sheet import CELL_LETTERS, LAST_COLUMN
from job.tables.xlsx_cells import block, cell_place

NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def edit_workbook(source: Path, target: Path, part: str, header: int, added: AddedColumns) -> Notes:
    """Writes the workbook `source` with `added` behind the last column of a sheet to `target`.

    part: name of the part of the file that holds the sheet. header: number of the row that names its columns.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        new.comment = old.comment
        for entry in old.infolist():
            content, name = old.read(entry), entry.filename.replace("\\", "/").lstrip("/")
            new.writestr(entry, edit_sheet(content, header, added) if name.lower() == part.lower() else content)
    texts = [cell for cells in added.rows.values() for cell in cells if isinstance(cell, str)]
    return cut_notes(sum(cell_text(text) != text for text in texts))


def edit_sheet(xml: bytes, header: int, added: AddedColumns) -> bytes:
    """The XML of a sheet with `added`. Raises OutputError where a sheet can have no further column."""
    xml = _ascii_compatible(xml)
    rows: dict[int, Mapping[int, Cell]] = {}
    sheet = _Sheet(xml, added.rows.keys() | {header})
    added.check_places(() if sheet.is_twice_there else sheet.rows)
    first = sheet.free_column(header)
    if first + len(added.names) - 1 > LAST_COLUMN:
        raise OutputError(
            f"the sheet has no free column: its last one, {get_column_letter(LAST_COLUMN)}, is used. Free some, or name a "
            "file .csv."
        )
    for number, cells in {header: added.names, **added.rows}.items():
        rows[number] = dict(enumerate(cells, first))
    pieces, position = [], 0
    for start, end, replacement in sorted(_changes(sheet, rows, first + len(added.names) - 1)):
        pieces += [xml[position:start], replacement]
        position = end
    return b"".join([*pieces, xml[position:]])


@dataclass
class _Row:
    """Where in the XML a row that gets cells stands."""

    start: int
    end: int
    """Of its last cell."""
    prefix: str
    """Of the namespace, with its colon."""
    empty: list[tuple[int, int, int, str | None]] = field(default_factory=list)
    """Column, start, end and style of the cells without content behind the last that has some."""
    style: str | None = None
    """Of the last cell with content."""


class _Sheet:
    """The places of the rows of a sheet."""

    def __init__(self, xml: bytes, wanted: set[int]) -> None:
        self.xml, self.last_column, self.last_row = xml, 0, 0
        self.rows: dict[int, _Row] = {}
        self.dimension: tuple[int, int] | None = None
        self.hidden: list[tuple[int, int, int, int]] = []
        """First and last column, start and end of what hides columns."""
        self.merged: list[tuple[int, int, int]] = []
        """First and last column, and last row of cells that are shown as one."""
        self._wanted, self._number, self._column, self._row = wanted, 0, 0, _Row(0, 0, "")
        self._inside, self._cell, self._filled = False, 0, False
        self._style: str | None = None
        self.is_twice_there = False
        """Whether two rows have the same number, as no spreadsheet program writes them."""
        self._parser = ParserCreate()
        self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
        self._parser.Parse(xml, True)

    def free_column(self, header: int) -> int:
        """The first column behind all that is below the header, and behind what is shown as one cell with some of it."""
        reach = [last for first, last, row in self.merged if row >= header and first <= self.last_column and last < LAST_COLUMN - 1]
        return max([self.last_column, *reach]) + 1

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        prefix, _, local = name.rpartition(":")
        position = self._parser.CurrentByteIndex
        if local == "sheetData":
            self._inside = True
        elif local == "dimension":
            self.dimension = position, self._tag_end(position)
        elif local == "col" and attributes.get("hidden") in ("1", "true"):
            self.hidden.append((int(attributes["min"]), int(attributes["max"]), position, self._tag_end(position)))
        elif local == "mergeCell":
            _, first, row, last = block(attributes["ref"])
            self.merged.append((first + 1, last + 1, row))
        elif self._inside and local == "row":
            self._number, self._column = int(attributes.get("r", self._number + 1)), 0
            self._row = _Row(position, self._tag_end(position), prefix and f"{prefix}:")
            self.is_twice_there |= self._number in self.rows
            if self._number in self._wanted:
                self.rows[self._number] = self._row
        elif self._inside and local == "c":
            self._column = cell_place(attributes["r"])[1] + 1 if "r" in attributes else self._column + 1
            self._cell, self._style, self._filled = position, attributes.get("s"), False
        elif self._inside and local in ("v", "is", "f"):
            self._filled = True

    def _end(self, name: str) -> None:
        local = name.rpartition(":")[2]
        if local == "sheetData":
            self._inside = False
        elif self._inside and local == "c":
            self._row.end = self._tag_end(self._parser.CurrentByteIndex)
            if self._filled:
                self.last_column, self.last_row = max(self.last_column, self._column), max(self.last_row, self._number)
                self._row.empty.clear()
                self._row.style = self._style
            else:
                self._row.empty.append((self._column, self._cell, self._row.end, self._style))

    def _tag_end(self, position: int) -> int:
        return self.xml.index(b">", position) + 1


def _changes(sheet: _Sheet, rows: Mapping[int, Mapping[int, Cell]], last_column: int) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, what comes there instead) of all that changes in the XML. last_column: of the new ones."""
    header, header_cells = next(iter(rows.items()))
    if sheet.dimension:
        start, end = sheet.dimension
        size = f'ref="A1:{get_column_letter(last_column)}{sheet.last_row}"'.encode()
        yield start, end, re.sub(rb"ref\s*=\s*(\"[^\"]*\"|'[^']*')", size, sheet.xml[start:end])
    for first, last, start, end in sheet.hidden:
        if first <= last_column and last >= min(header_cells):
            yield start, end, _without_columns(sheet.xml[start:end], (first, last), (min(header_cells), last_column))
    for number, cells in rows.items():
        if row := sheet.rows.get(number):
            tag_end = sheet.xml.index(b">", row.start) + 1
            yield row.start, tag_end, re.sub(rb"\sspans\s*=\s*(\"[^\"]*\"|'[^']*')", b"", sheet.xml[row.start : tag_end])
            yield from _row_changes(row, number, cells, row.style if number == header else None)


def _row_changes(row: _Row, number: int, cells: Mapping[int, Cell], style: str | None) -> Iterator[tuple[int, int, bytes]]:
    there = {column: (start, end, own) for column, start, end, own in row.empty}
    for column, cell in cells.items():
        if column in there:
            start, end, own = there[column]
            yield start, end, _cell_xml(row.prefix, column, number, cell, style or own)
        else:
            place = next((start for other, start, _, _ in row.empty if other > column), row.end)
            yield place, place, _cell_xml(row.prefix, column, number, cell, style)


def _cell_xml(prefix: str, column: int, number: int, cell: Cell, style: str | None) -> bytes:
    """A cell: numbers as numbers, all else as text, which no spreadsheet program computes."""
    kept = f' s="{style}"' if style is not None else ""
    start = f'<{prefix}c r="{get_column_letter(column)}{number}"{kept}'
    if cell is None or cell == "":
        return f"{start}/>".encode() if kept else b""
    if isinstance(cell, str):
        text = escape(re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", cell_text(cell)))
        inner = f' t="inlineStr"><{prefix}is><{prefix}t xml:space="preserve">{text}</{prefix}t></{prefix}is>'
    else:
        inner = f"><{prefix}v>{cell!r}</{prefix}v>"
    return f"{start}{inner}</{prefix}c>".encode("ascii", "xmlcharrefreplace")


def cell_text(text: str) -> str:
    """As much of `text` as a cell of a workbook can hold."""
    text = NO_XML.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(text) * 2 <= CELL_LETTERS:
        return text
    return text.encode("utf-16-le")[: 2 * CELL_LETTERS].decode("utf-16-le", "ignore")


def cut_notes(count: int) -> Notes:
    """The notes on cells that `cell_text` changed."""
    told = f"{count} cells lost control characters or what is beyond {CELL_LETTERS} letters; csv keeps all"
    return (told,) if count else ()


def _without_columns(tag: bytes, hidden: tuple[int, int], shown: tuple[int, int]) -> bytes:
    """What hides columns, without those that are to be `shown`."""
    parts = [(hidden[0], min(hidden[1], shown[0] - 1)), (max(hidden[0], shown[1] + 1), hidden[1])]
    made = []
    for first, last in parts:
        if first <= last:
            limits = re.sub(rb"\bmin\s*=\s*[\"']\d+[\"']", f'min="{first}"'.encode(), tag)
            made.append(re.sub(rb"\bmax\s*=\s*[\"']\d+[\"']", f'max="{last}"'.encode(), limits))
    return b"".join(made)


def _ascii_compatible(xml: bytes) -> bytes:
    """`xml`, as UTF-8 where it was UTF-16."""
    if not xml.startswith((b"\xff\xfe", b"\xfe\xff")):
        return xml
    return re.sub(r"encoding\s*=\s*[\"'][^\"']*[\"']", 'encoding="UTF-8"', xml.decode("utf-16"), count=1).encode()
