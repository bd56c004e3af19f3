"""What the reader of every spreadsheet format gives: sheets, their rows, and the text of each cell that is there."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

LAST_ROW, LAST_COLUMN, CELL_LETTERS = 1_048_576, 16_384, 32_767
"""What a sheet has room for, the last in UTF-16 units of a cell's text."""


class NoValue(str):
    """A cell without a value: the error that stands in it, such as "#N/A", or `NOT_COMPUTED`."""


NOT_COMPUTED = NoValue("a formula that was never computed")


@dataclass(slots=True)
class SheetRow:
    """A row in which at least one cell has something."""

    number: int
    """As the spreadsheet program numbers it, from 1."""
    cells: dict[int, str]
    """Text by column, from 0, of cells that are not empty."""
    hidden: bool = False


@dataclass
class Sheet:
    """One sheet of a workbook."""

    name: str
    hidden: bool
    rows: Iterator[SheetRow]
    """Of cells that are there, however far apart, in memory only while they are looked at. To be gone through once."""
    merged: list[tuple[int, int, int, int]] = field(default_factory=list)
    """First row, first column, last row, last column of merged blocks: rows from 1, columns from 0. Complete after the rows."""
    part: str = ""
    """Name of the part of an .xlsx file that holds it."""
    header: int | None = None
    """Number of the row on which the sheet's filter stands. Known after the rows."""
    totals: int | None = None
    """Number of the row with the totals of the sheet's table. Known after the rows."""

    def has_cells(self) -> bool:
        """Whether anything stands on it."""
        first = next(self.rows, None)
        self.rows = self.rows if first is None else chain([first], self.rows)
        return first is not None
