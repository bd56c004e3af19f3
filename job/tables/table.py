"""A table as it was read, and where it came from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datasets import Dataset

from job.errors import DataError
from job.tables.file_rows import ROWS_AT_ONCE, printable


@dataclass(frozen=True)
class Source:
    """Where a table comes from."""

    variable: str
    """Name of the variable that names it, for messages."""
    location: str
    """File, folder, glob or hub dataset id."""
    sheet: str | None = None
    split: str = "train"
    """The part that is read, "all" for every row."""
    token: str | None = None

    def __str__(self) -> str:
        return f"{self.variable}={printable(self.location)}"


@dataclass(frozen=True)
class Table:
    """Rows as they were found, and what a person calls each."""

    source: Source
    rows: Dataset
    numbers: Sequence[int] | None = None
    """Of the rows, as a person sees them in their file; None where they are counted from 1."""
    files: tuple[tuple[str, int], ...] = ()
    """Name and rows of each file, where there are several."""
    notes: tuple[str, ...] = ()
    """What a person should know of how they were read, a line each."""
    held_out: "Table | None" = None
    """Rows for the evaluation, where the source holds them apart: its validation part, or its test part where there is none."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Columns whose cells are not what they should be: what is wrong and what to do. No fault unless one of them is used."""
    kept_as_json: frozenset[str] = frozenset()
    """Columns whose lists and objects are of different forms, which Arrow would change: each such cell is JSON text."""
    other_sheets: str = ""
    """Which sheet of a workbook was read and which others are there; "" where there is no choice."""

    def all_numbers(self) -> Sequence[int]:
        """`numbers`, also where they are counted."""
        return range(1, len(self.rows) + 1) if self.numbers is None else self.numbers

    def row_name(self, index: int) -> str:
        """What a person calls the row at `index`: "row 7", or with several files "a.csv row 7"."""
        number, before = index + 1 if self.numbers is None else self.numbers[index], 0
        for name, rows in self.files:
            if index < before + rows:
                return f"{name} row {number}"
            before += rows
        return f"row {number}"

    def check_usable(self, names: Iterable[str]) -> None:
        """Raises DataError for the first of the columns `names` whose cells are not what they should be."""
        for name in names:
            if name in self.unusable:
                raise DataError(f'{self.source}: column "{printable(name)}": {self.unusable[name]}.')

    def or_sheet(self) -> str:
        """What to add to an error about the columns: that another sheet may be meant, where there are several."""
        return f", or SHEET: {self.other_sheets}" if self.other_sheets else ""

    def cells(self, column: str) -> Iterator[Any]:
        """The cells of a column, few of them in memory at once."""
        for batch in self.rows.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
            yield from batch[column]

    def select(self, indices: Sequence[int]) -> "Table":
        """These rows alone, under the names that a person calls them by."""
        if len(indices) == len(self.rows):
            return self
        every = self.all_numbers()
        numbers = [every[index] for index in indices]
        files, start = [], 0
        for name, count in self.files:
            files.append((name, sum(start <= index < start + count for index in indices)))
            start += count
        return replace(self, rows=self.rows.select(indices), numbers=numbers, files=tuple(files))
