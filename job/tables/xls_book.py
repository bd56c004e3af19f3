"""The cells of an .xls file, the workbook format of Excel before 2007."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xlrd

from job.tables.cell_format import number_text
from job.tables.sheet import NoValue, Sheet, SheetRow


@contextmanager
def open_xls(path: Path) -> Iterator[list[Sheet]]:
    """The sheets of an .xls file. Damage shows as nearly any exception."""
    # formatting_info: number formats and hidden rows are else left out; logfile: it prints what it wonders at
    with xlrd.open_workbook(str(path), formatting_info=True, ragged_rows=True, on_demand=True, logfile=io.StringIO()) as book:
        yield [_sheet(book, index) for index in range(book.nsheets)]


def _sheet(book: xlrd.Book, index: int) -> Sheet:
    sheet = book.sheet_by_index(index)
    found = Sheet(sheet.name, sheet.visibility != 0, _rows(book, sheet))
    found.merged = [(row + 1, column, last_row, last_column - 1) for row, last_row, column, last_column in sheet.merged_cells]
    return found


def _rows(book: xlrd.Book, sheet: xlrd.sheet.Sheet) -> Iterator[SheetRow]:
    for index in range(sheet.nrows):
        texts = {column: _text(book, cell) for column, cell in enumerate(sheet.row(index))}
        if cells := {column: text for column, text in texts.items() if text}:
            info = sheet.rowinfo_map.get(index)
            yield SheetRow(index + 1, cells, hidden=bool(info and info.hidden))


def _text(book: xlrd.Book, cell: xlrd.sheet.Cell) -> str:
    if cell.ctype == xlrd.XL_CELL_TEXT:
        return str(cell.value).replace("\r\n", "\n").replace("\r", "\n")
    if cell.ctype in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
        number_format = book.format_map.get(book.xf_list[cell.xf_index or 0].format_key)
        return number_text(float(cell.value), number_format.format_str if number_format else "General", bool(book.datemode))
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return "TRUE" if cell.value else "FALSE"
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return NoValue(xlrd.error_text_from_code.get(int(cell.value), "#ERROR"))
    return ""
