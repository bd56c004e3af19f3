"""What one file holds: its rows, read by the module of its format, cells as they stand."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from job.errors import DataError

ROWS_AT_ONCE = 10_000
"""Of a table, that are looked at together."""
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
    unusable: dict[str, str] = field(default_factory=dict)
    """Columns whose cells are not what they should be: what is wrong and what to do. No fault unless one of them is used."""
    other_sheets: str = ""
    """Which sheet of a workbook was read and which others are there; "" where there is no choice."""


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


def ambiguous(names: Iterable[str]) -> dict[str, str]:
    """What is wrong with each name that several columns have."""
    return {
        name: f"{count} columns have that name: rename the others" for name, count in Counter(names).items() if name and count > 1
    }


def check_header(where: str, names: list[str]) -> None:
    """Raises DataError where no column has a name."""
    if not any(name.strip() for name in names):
        raise DataError(f"{where}: no header. Put the names of the columns into the first row.")


def first_of(items: Sequence[Any], name: Callable[[Any], str] = str, most: int = 5) -> str:
    """`row 3, row 7 and 12 more`: as many as a line has room for. name: what a person calls an item."""
    return ", ".join(map(name, items[:most])) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def rows_of(numbers: Sequence[int], most: int = 3) -> str:
    """`row 5`, or `rows 5, 6, 7 and 12 more`."""
    return f"row{'s' * (len(numbers) > 1)} {first_of(numbers, most=most)}"


def quoted(names: Iterable[str]) -> str:
    """`"a", "b"`, each on one line and not at any length."""
    return ", ".join(map(in_quotes, names))


def in_quotes(name: str) -> str:
    """`"a"`, on one line and not at any length."""
    return f'"{printable(name, 80)}"'


def printable(text: str, longest: int = 200) -> str:
    """`text` on one line, for a message: control characters and broken ones written out, long ones cut in the middle."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= longest else f"{shown[: longest // 2]}...{shown[-longest // 2 :]}"
