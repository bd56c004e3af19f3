"""Further columns of a table that a person gave."""

from dataclasses import dataclass

Cell = str | float | None


@dataclass(frozen=True)
class AddedColumns:
    """Columns to be added to one file."""

    names: tuple[str, ...]
    rows: dict[int, tuple[Cell, ...]]
    """Their cells by the number of the row, as a person counts rows; rows that are not here get none."""
