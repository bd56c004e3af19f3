"""Further columns of a table that a person gave."""

from collections.abc import Iterable
from dataclasses import dataclass

from job.errors import OutputError

Cell = str | float | None
Notes = tuple[str, ...]
"""What a person should know of a file that was written, each to be put behind its name."""


class NoPlaceError(OutputError):
    """The rows have no places of their own in their file."""


@dataclass(frozen=True)
class AddedColumns:
    """Columns to be added to one file."""

    names: tuple[str, ...]
    rows: dict[int, tuple[Cell, ...]]
    """Their cells by the number of the row, as a person counts rows; rows that are not here get none."""

    def check_places(self, numbers: Iterable[int]) -> None:
        """Raises NoPlaceError unless each row is among those that a file has."""
        if lacking := self.rows.keys() - set(numbers):
            raise NoPlaceError(f"{len(lacking)} rows have no place in the file, such as row {min(lacking)}")
