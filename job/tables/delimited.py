"""Text tables: csv and tsv, and text files of a line a row."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from openpyxl.utils import get_column_letter

from job.errors import DataError
from job.tables.encodings import Decoded, decode
from job.tables.file_rows import FileRows, ambiguous, check_header, distinct, of_rows, printable, quoted, rows_of
from job.tables.header_lines import Numbered, lines_below, unwrap, unwrapped
from job.tables.layout import DELIMITERS, QUOTES, WHOLE_LINE, Layout, find_layout, is_table

SHOWN = 5
"""Row numbers that a note lists."""
USUAL = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


def read_delimited(where: str, path: Path) -> FileRows:
    """Every cell as text, None where it is empty. Rows are numbered as a spreadsheet shows them: blank ones count."""
    return _read_table(where, path, decode(where, path.name, path.read_bytes()))


def read_text(where: str, path: Path) -> FileRows:
    """The rows of a text file that is a table, else each line that is not blank as a row of the column "input"."""
    decoded = decode(where, path.name, path.read_bytes())
    if is_table(decoded.text):
        return _read_table(where, path, decoded)
    lines = enumerate(io.StringIO(decoded.text, newline=""), 1)
    notes = [*decoded.notes, f'{path.name}: no table; each line is a row of the column "input".']
    return of_rows(["input"], ((number, [line.rstrip("\r\n")]) for number, line in lines if line.strip()), notes)


def open_text(where: str, path: Path) -> io.StringIO:
    """The text of a file. Raises DataError where its encoding cannot be found."""
    return io.StringIO(decode(where, path.name, path.read_bytes()).text, newline="")


def _read_table(where: str, path: Path, decoded: Decoded) -> FileRows:
    suffix = path.suffix.lower()
    layout, rows = read_cells(where, decoded.text, find_layout(decoded.text, suffix))
    if not rows:
        raise DataError(f"{where}: {path.name} is blank. Put a header and some rows into it.")
    (header_number, first), *below = rows
    header = [(unwrap(name) or name).strip().strip("\ufeff\u200b") for name in first]
    check_header(where, header)
    while not header[-1]:
        header.pop()
    repetitions = [number for number, row in below if row == first]
    below = [(number, row) for number, row in below if row != first]
    _check_width(where, header_number, header, below)
    count = lines_below(rows[0], below)
    further, below = [number for number, _ in below[:count]], below[count:]
    wrapped = [name for place, name in enumerate(header) if unwrapped(below, place)]
    left_out = {
        "the header stands in {} again, which is left out": repetitions,
        "the header goes on in {}, which is left out": further,
    }
    notes = [
        *decoded.notes,
        *(f"{path.name}: {said.format(rows_of(numbers, SHOWN))}." for said, numbers in left_out.items() if numbers),
        *([f'{path.name}: the texts of {quoted(wrapped)} are taken out of formulas such as ="007".'] if wrapped else []),
        *_layout_notes(path.name, layout, USUAL.get(suffix), rows),
        *_cell_notes(path.name, header, below),
    ]
    places = [place for place, name in enumerate(header) if name or _filled(below, place)]
    names = distinct([header[place] or get_column_letter(place + 1) for place in places])
    cells = ((number, [row[place] or None if place < len(row) else None for place in places]) for number, row in below)
    return replace(of_rows(names, cells, notes), unusable=ambiguous(header))


def read_cells(where: str, text: str, layout: Layout) -> tuple[Layout, Numbered]:
    """The rows that are not blank, and the layout that they turned out to have: quotes are told apart by reading to the end."""
    styles = [style for style in QUOTES if style != "none" or layout.delimiter == "\t"]  # only tabs are written without quotes
    failures = []
    for quotes in dict.fromkeys((layout.quotes, *styles)):
        layout, rows = replace(layout, quotes=quotes), list[tuple[int, list[str]]]()
        reader, number = layout.rows(text), 0
        try:
            for number, row in enumerate(reader, 1):
                if any(map(str.strip, row)):
                    rows.append((number, row))
            return layout, rows
        except csv.Error as error:
            failures.append((number + 1, str(error)))
    number, said = failures[0]
    found = "a double quote opens a cell and none closes it" if "end of data" in said else said
    raise DataError(f"{where}: row {number}: {found}. Check the double quotes there.")


def _check_width(where: str, header_number: int, header: list[str], rows: Numbered) -> None:
    """Raises DataError for rows with filled cells beyond the header's."""
    wide = [(number, row) for number, row in rows if any(map(str.strip, row[len(header) :]))]
    if not wide:
        return
    cells = max(place for place, cell in enumerate(wide[0][1], 1) if cell.strip())
    if len(header) == 1 and len(wide) * 2 > len(rows):
        raise DataError(
            f'{where}: row {header_number} ("{printable(header[0], 40)}") is no header: the rows below have {cells} cells. '
            "Delete what stands above the names of the columns."
        )
    have = f"and {len(wide) - 1} more have" if len(wide) > 1 else "has"
    raise DataError(
        f"{where}: row {wide[0][0]} {have} {cells} cells, the header has {len(header)}. "
        "Put text that contains the delimiter or a line break in double quotes, or name the further columns."
    )


def _layout_notes(name: str, layout: Layout, usual: str | None, rows: Numbered) -> list[str]:
    told: dict[str, Callable[[], bool]] = {
        f"{name}: the cells are separated by {DELIMITERS.get(layout.delimiter, repr(layout.delimiter))}.": (
            lambda: layout.delimiter not in (usual, WHOLE_LINE)
        ),
        f"{name}: one column; commas and other delimiters in it are text.": (
            lambda: layout.delimiter == WHOLE_LINE and any(delimiter in row[0] for _, row in rows for delimiter in DELIMITERS)
        ),
        f'{name}: quotes within cells are written \\" there.': lambda: layout.quotes == "backslash",
        f"{name}: double quotes are text there, not around cells.": lambda: layout.quotes == "none",
    }
    return [note for note, applies in told.items() if applies()]


def _cell_notes(name: str, header: list[str], rows: Numbered) -> list[str]:
    notes = []
    if short := [number for number, row in rows if len(row) < len(header)]:
        notes.append(f"{name}: cells are missing at the end of {rows_of(short, SHOWN)}, and count as empty.")
    for place, column in enumerate(header):
        if not column and _filled(rows, place):
            letter = get_column_letter(place + 1)
            notes.append(f'{name}: column {place + 1} has no name, and is called "{letter}".')
    return notes


def _filled(rows: Numbered, place: int) -> bool:
    return any(place < len(row) and row[place].strip() for _, row in rows)
