"""What one file holds: its rows, read by the module of its format, cells as they stand."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from job.errors import DataError

Cells = dict[str, list]
"""Cells by the name of their column: text, None where a cell is empty, lists and dicts where a format nests."""


@dataclass(frozen=True)
class FileRows:
    """The rows of one file."""

    columns: Cells
    numbers: Sequence[int]
    """What a person calls each row: in a spreadsheet the header is row 1, and blank rows count."""
    notes: tuple[str, ...] = ()
    """What a person should know of how they were read, a line each."""
    held_out: "FileRows | None" = None
    """Rows for the evaluation, where the file holds them apart: its validation part, or its test part where there is none."""


def of_rows(names: list[str], rows: Iterable[tuple[int, Sequence]], notes: Sequence[str] = ()) -> FileRows:
    """`rows`, each with its number, by the columns' names."""
    columns: Cells = {name: [] for name in names}
    appenders, numbers = [columns[name].append for name in names], []
    for number, row in rows:
        numbers.append(number)
        for append, cell in zip(appenders, row, strict=True):
            append(cell)
    return FileRows(columns, numbers, tuple(notes))


def distinct(names: Sequence[str]) -> list[str]:
    """`names`, the second "Comment" as "Comment (2)"."""
    taken, found = set(names), []
    numbers: Counter[str] = Counter()
    for name in names:
        free = name
        while numbers[name] and free in taken:
            numbers[name] += 1
            free = f"{name} ({numbers[name]})"
        numbers[name] += not numbers[name]
        taken.add(free)
        found.append(free)
    return found


def check_header(where: str, names: list[str]) -> None:
    """Raises DataError where no column has a name."""
    if not any(name.strip() for name in names):
        raise DataError(f"{where}: no header. Put the names of the columns into the first row.")


def quoted(names: Iterable[str]) -> str:
    """`"a", "b"`."""
    return ", ".join(f'"{name}"' for name in names)
