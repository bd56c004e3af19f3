"""Workbooks: the cells of a sheet."""

import contextlib
from pathlib import Path

from openpyxl import load_workbook

from job.data.file_rows import FileRows, check_header, of_rows, quoted
from job.errors import DataError, first_line


def read_workbook(where: str, path: Path, sheet: str | None) -> FileRows:
    """The rows of the sheet of that name, or of the first one. where: variable and value, for messages. Raises DataError."""
    try:
        with contextlib.closing(load_workbook(path, read_only=True, data_only=True)) as book:
            if sheet is not None and sheet not in book.sheetnames:
                raise DataError(f'{where}: no sheet "{sheet}"; found {quoted(book.sheetnames)}. Set SHEET to one of them.')
            found = book[sheet] if sheet else book.worksheets[0]
            found.reset_dimensions()  # some programs write too small a range there, and what lies outside would be lost
            cells = list(found.iter_rows(values_only=True))
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, the XML parser and openpyxl raise nearly anything for a damaged file
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(f"{where}: {path.name} is not an .xlsx file ({first_line(error)}). Save it as xlsx once more.") from None
    while cells and all(cell is None for cell in cells[-1]):
        cells.pop()
    if not cells:
        raise DataError(f"{where}: the sheet is empty. Put a header and rows into it, or set SHEET to another.")
    places = [place for place, name in enumerate(cells[0]) if name is not None]
    header = [str(cells[0][place]) for place in places]
    check_header(where, header)
    rows = ([row[place] if place < len(row) else None for place in places] for row in cells[1:])
    return of_rows(header, enumerate(rows, 2))


def table_place(_where: str, path: Path, sheet: str | None) -> tuple[str, int]:
    """Where the table is that `read_workbook` reads: the part of an .xlsx file, and the number of its header's row."""
    with contextlib.closing(load_workbook(path, read_only=True)) as book:
        return (book[sheet] if sheet else book.worksheets[0])._worksheet_path, 1  # type: ignore[attr-defined]
