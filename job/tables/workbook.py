"""Spreadsheets: the rows of a sheet, as a person sees them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from job.errors import DataError, first_line
from job.tables.column_names import find_name
from job.tables.content_kind import content_kind
from job.tables.file_rows import FileRows, quoted
from job.tables.ods_cells import open_ods
from job.tables.sheet import Sheet
from job.tables.sheet_header import header_index
from job.tables.sheet_rows import filled_rows, sheet_rows
from job.tables.xls_book import open_xls
from job.tables.xlsx_cells import open_xlsx

OPEN: dict[str, Callable[[Path], AbstractContextManager[list[Sheet]]]] = {".xlsx": open_xlsx, ".xls": open_xls, ".ods": open_ods}
"""Who opens a spreadsheet of a kind of content. An .xlsm has the content of an .xlsx."""
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
"""Endings of the names of files that are read here."""


def read_workbook(where: str, path: Path, sheet: str | None) -> FileRows:
    """The rows of the sheet of that name, or of the first one that a person sees. where: variable and value, for messages.

    The content decides how a file is read, not the ending of its name. Raises DataError.
    """
    with _opened(where, path) as sheets:
        chosen = _choose(where, sheets, sheet)
        found = sheet_rows(where, chosen)
        others = _other_sheets(chosen, sheets, sheet)
        notes = [f"{others}: SHEET names the one to read"] if others else []
        return replace(found, notes=tuple(f"{path.name}: {note}." for note in [*notes, *found.notes]), other_sheets=others)


def table_place(where: str, path: Path, sheet: str | None) -> tuple[str, int]:
    """Where the table is that `read_workbook` reads: the part of an .xlsx file, and the number of its header's row."""
    with _opened(where, path) as sheets:
        chosen = _choose(where, sheets, sheet)
        rows, _ = filled_rows(where, chosen)
        return chosen.part, rows[header_index(rows, chosen)].number


@contextmanager
def _opened(where: str, path: Path) -> Iterator[list[Sheet]]:
    """The sheets of a file; whatever is wrong with it, also while they are read, is a DataError."""
    kind = content_kind(path)
    if kind.suffix not in OPEN:
        raise DataError(f"{where}: {path.name} is not a spreadsheet that can be read: it is {kind.name}. {kind.advice}")
    try:
        with OPEN[kind.suffix](path) as sheets:
            yield sheets
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, XML and xls parsers raise nearly anything for a damaged file
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(
            f"{where}: {path.name} is damaged ({first_line(error)}). Open it in a spreadsheet program and save it once more."
        ) from None


def _choose(where: str, sheets: Sequence[Sheet], name: str | None) -> Sheet:
    """The sheet of that name; else the first one that has cells and is not hidden."""
    if name is not None:
        found = [sheet.name for sheet in sheets]
        if (meant := find_name(found, name)) is None:
            raise DataError(f'{where}: no sheet "{name}"; found {quoted(found)}. Set SHEET to one of them.')
        return sheets[found.index(meant)]
    seen = [sheet for sheet in sheets if not sheet.hidden] or sheets
    if not seen:
        raise DataError(f"{where}: no sheet with cells. Put a header and rows into one.")
    return next((sheet for sheet in seen if sheet.has_cells()), seen[0])


def _other_sheets(chosen: Sheet, sheets: Sequence[Sheet], wanted: str | None) -> str:
    """Which sheet is read and which are there too; "" where one was named or no other has cells."""
    others = [sheet for sheet in sheets if wanted is None and sheet is not chosen and sheet.has_cells()]
    if not others:
        return ""
    names = ", ".join(f'"{sheet.name}"{" (hidden)" * sheet.hidden}' for sheet in others)
    return f'the sheet "{chosen.name}" is read; there {"is" if len(others) == 1 else "are"} also {names}'
