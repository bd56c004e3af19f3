"""A person's own files, given back with further columns: same format, same order, all else as it was."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from job.errors import JobError, OutputError, first_line
from job.system.durable import replace_durably
from job.system.file_system import is_disk_full
from job.tables.added_columns import AddedColumns, Cell, NoPlaceError, Notes
from job.tables.destination import Destination, check_destination
from job.tables.edit import edit
from job.tables.table import Table
from job.tables.write import write_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Further columns of a whole table."""

    names: tuple[str, ...]
    cells: Sequence[tuple[Cell, ...]]
    """A row each; nothing but None in those that were not asked."""


def rehearse(destination: Destination, table: Table, names: tuple[str, ...]) -> Destination:
    """The destination, after the table was written there with empty cells and taken away again.

    So whatever fails is told before there are answers to lose. Rows that have no place of their own in their file go to a new
    table in the same format.
    """
    columns = Columns(names, [(None,) * len(names)] * len(table.rows))
    if destination.files and not _is_editable(table):
        destination = _as_new(destination)
    try:
        _remove(_written(destination, table, columns))
    except NoPlaceError:
        destination = _as_new(destination)
        _remove(_written(destination, table, columns))
    return destination


def _as_new(destination: Destination) -> Destination:
    log.warning("%s: the rows have no places of their own in the file; they go to a new table", destination.path)
    new = replace(destination, files=())
    check_destination(new)
    return new


def _remove(written: Iterable[tuple[Path, Path, Notes]]) -> None:
    for partial, _, _ in written:
        partial.unlink()


def give_back(destination: Destination, table: Table, columns: Columns) -> None:
    """Writes the table with `columns`; once all files are written, each is moved into its place."""
    written: list[tuple[Path, Path, Notes]] = []
    try:
        for file in _written(destination, table, columns):
            written.append(file)
    except BaseException:
        _remove(written)
        raise
    for partial, path, notes in written:
        replace_durably(partial, path)
        for note in notes:
            log.warning("%s: %s", path, note)


def _is_editable(table: Table) -> bool:
    """Whether each row has a place of its own in its file: one number to a row."""
    start = 0
    for count in [rows for _, rows in table.files] or [len(table.rows)]:
        numbers = table.all_numbers()[start : start + count]
        if len(set(numbers)) < count:
            return False
        start += count
    return True


def _written(destination: Destination, table: Table, columns: Columns) -> Iterator[tuple[Path, Path, Notes]]:
    """The files with `columns`, each beside its place; the place; and the notes on it."""
    if not destination.files:
        partial = _partial(destination.path)
        with _removed_if_it_fails(destination.path, partial):
            notes = write_table(_as_arrow(table, columns), partial, destination.suffix, columns.names[0])
        yield partial, destination.path, notes
        return
    start = 0
    counts = [rows for _, rows in table.files] or [len(table.rows)]
    for (source, target), count in zip(destination.files, counts, strict=True):
        numbers, cells = table.all_numbers()[start : start + count], columns.cells[start : start + count]
        partial = _partial(target)
        with _removed_if_it_fails(target, partial):
            added = AddedColumns(columns.names, dict(zip(numbers, cells, strict=True)))
            notes = edit(source, partial, added, table.source.sheet)
        yield partial, target, notes
        start += count


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@contextlib.contextmanager
def _removed_if_it_fails(path: Path, partial: Path) -> Iterator[None]:
    """Removes what was written so far where the rest fails. Raises OutputError for what a file in this format cannot hold."""
    try:
        yield
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, JobError) or not isinstance(error, Exception) or is_disk_full(error, path.parent):
            raise
        said = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {first_line(error)}"
        raise OutputError(
            f"{path}: the table cannot be written so ({said}). Name another file, or one with another ending."
        ) from error


def _as_arrow(table: Table, columns: Columns) -> pa.Table:
    """The rows with their new columns."""
    made: pa.Table = table.rows.with_format("arrow")[:]
    for place, name in enumerate(columns.names):
        made = made.append_column(name, pa.array([row[place] for row in columns.cells]))
    return made.replace_schema_metadata(None)
