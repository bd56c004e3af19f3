"""The table on a sheet: its columns by name, and notes of what was left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from openpyxl.utils import get_column_letter

from job.errors import DataError
from job.tables.file_rows import FileRows, ambiguous, distinct, of_rows, quoted, rows_of
from job.tables.sheet import NOT_COMPUTED, NoValue, Sheet, SheetRow
from job.tables.sheet_header import has_second_line, header_index

REMARKS = 0.1
"""A column without a name in which a smaller share of the rows has something holds remarks beside the table."""


def sheet_rows(where: str, sheet: Sheet) -> FileRows:
    """The rows of a sheet that a person sees, without those that are blank. where: for messages. Raises DataError.

    A cell with an error is empty. A column with formulas that were never computed is unusable.
    """
    rows, spaces = filled_rows(where, sheet)
    index = header_index(rows, sheet)
    header, second = rows[index], has_second_line(rows, index)
    body = [row for row in rows[index + 1 + second :] if row.number != sheet.totals]
    seen = [row for row in body if not row.hidden and row.cells != header.cells]
    if body and all(row.hidden for row in body):
        raise DataError(f'{where}: all rows of the sheet "{sheet.name}" are hidden. Clear its filter, or unhide them.')
    names = _names(header, seen)
    kept = [row for row in seen if not names.keys().isdisjoint(row.cells)]
    never_computed = _never_computed(names, kept)
    notes = [
        *_header_notes(rows[:index], header, rows[index + 1] if second else None),
        *_name_notes(header, names),
        *_row_notes("repeating the header", [row.number for row in body if row.cells == header.cells]),
        *_row_notes("totals of the table", [row.number for row in rows if row.number == sheet.totals]),
        *_row_notes("hidden (unhide them or clear the filter to use them)", [row.number for row in body if row.hidden]),
        *_row_notes("remarks beside the table", [row.number for row in seen if names.keys().isdisjoint(row.cells)]),
        *_row_notes("blank", _blank(rows, header, kept, spaces)),
        *(f'column "{name}": {why}' for name, why in never_computed.items()),
        *_error_notes(names, kept),
        *_merged_notes(sheet, names, kept),
    ]
    table = ((row.number, [_cell(row, column) for column in names]) for row in kept)
    repeated = ambiguous(_own_name(header, column) for column in names)
    return replace(of_rows(list(names.values()), table, notes), unusable=repeated | never_computed)


def filled_rows(where: str, sheet: Sheet) -> tuple[list[SheetRow], list[SheetRow]]:
    """The rows of a sheet that have a text, and those of which all cells hold spaces. Raises DataError where it has no texts."""
    rows: tuple[list[SheetRow], list[SheetRow]] = [], []
    for row in sheet.rows:
        rows[all(text.isspace() for text in row.cells.values())].append(row)
    if not rows[0]:
        raise DataError(f"{where}: the sheet is empty. Put a header and rows into it, or set SHEET to another.")
    return rows


def _cell(row: SheetRow, column: int) -> str | None:
    text = row.cells.get(column)
    return None if isinstance(text, NoValue) else text


def _names(header: SheetRow, rows: Sequence[SheetRow]) -> dict[int, str]:
    """Name of each column of the table, its letter where it has none."""
    filled = Counter(column for row in rows for column in row.cells)
    wide = {column for column, count in filled.items() if count >= REMARKS * len(rows)}
    columns = sorted(wide | {column for column in header.cells if _own_name(header, column)})
    names = distinct([_own_name(header, column) or get_column_letter(column + 1) for column in columns])
    return dict(zip(columns, names, strict=True))


def _own_name(header: SheetRow, column: int) -> str:
    """What the header calls a column, each stretch of spaces and line breaks in it as one space; "" where it has no name."""
    return " ".join((_cell(header, column) or "").split())


def _never_computed(names: dict[int, str], rows: Sequence[SheetRow]) -> dict[str, str]:
    """Columns with formulas that have no value, and what is wrong and what to do."""
    found = {name: [row.number for row in rows if row.cells.get(column) is NOT_COMPUTED] for column, name in names.items()}
    return {
        name: f"its formulas in {rows_of(numbers)} were never computed: open the file in a spreadsheet program and save it"
        for name, numbers in found.items()
        if numbers
    }


def _blank(rows: Sequence[SheetRow], header: SheetRow, kept: Sequence[SheetRow], spaces: Sequence[SheetRow]) -> list[int]:
    """Numbers of the rows without a text, up to the last that has one, or further where their cells hold spaces."""
    filled, last = {row.number for row in rows}, kept[-1].number if kept else header.number
    within = [number for number in range(header.number + 1, last) if number not in filled]
    return within + [row.number for row in spaces if row.number > last]


def _header_notes(above: Sequence[SheetRow], header: SheetRow, second: SheetRow | None) -> list[str]:
    notes = []
    if above:
        first = next(iter(above[0].cells.values()))
        notes.append(f'the header is row {header.number}; what stands above it is left out ("{_short(first)}")')
    if second:
        texts = quoted(_short(text) for text in list(second.cells.values())[:3])
        notes.append(f"row {second.number} is a second line of the header and left out ({texts})")
    return notes


def _name_notes(header: SheetRow, names: dict[int, str]) -> list[str]:
    own = {column: _own_name(header, column) for column in names}
    unnamed = [name for column, name in names.items() if not own[column]]
    notes = [f"columns without a name are called by their letters: {quoted(unnamed)}"] if unnamed else []
    again = {column: name for column, name in names.items() if own[column] and name != own[column]}
    return notes + [
        f'column {get_column_letter(column + 1)} is one more "{own[column]}" and called "{name}"' for column, name in again.items()
    ]


def _row_notes(why: str, numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    return [f"{len(numbers):,} row{'s' * (len(numbers) > 1)} left out, {why}: {rows_of(numbers)}"]


def _error_notes(names: dict[int, str], rows: Sequence[SheetRow]) -> list[str]:
    notes = []
    for column, name in names.items():
        errors = [(row.cells[column], row.number) for row in rows if isinstance(row.cells.get(column), NoValue)]
        errors = [(error, number) for error, number in errors if error is not NOT_COMPUTED]
        if errors:
            what = f"{len(errors):,} cell{'s' * (len(errors) > 1)} with an error, such as {errors[0][0]}, taken as empty"
            notes.append(f'column "{name}": {what} ({rows_of([number for _, number in errors])})')
    return notes


def _merged_notes(sheet: Sheet, names: dict[int, str], rows: Sequence[SheetRow]) -> list[str]:
    """Blocks over several rows of the table: their text stands in the first."""
    if not rows:
        return []
    notes = []
    for column, name in names.items():
        blocks = [
            first
            for first, first_column, last, last_column in sheet.merged
            if first_column <= column <= last_column and last > max(first, rows[0].number) and first <= rows[-1].number
        ]
        if blocks:
            cells = "1 cell is" if len(blocks) == 1 else f"{len(blocks):,} cells are"
            notes.append(f'column "{name}": {cells} merged over several rows, with the text in the first alone ({rows_of(blocks)})')
    return notes


def _short(text: str) -> str:
    """The beginning of a text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
