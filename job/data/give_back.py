"""A person's own files, given back with further columns: same format, same order, all else as it was."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from job.data.added_columns import AddedColumns, Cell
from job.data.delimited_edit import edit_delimited
from job.data.json_edit import edit_json
from job.data.parquet_edit import edit_arrow, edit_parquet
from job.data.places import Found
from job.data.read import Table
from job.data.repack import repack
from job.data.unpack import COMPRESSED, inner_name, unpacked
from job.data.workbook import edit_workbook_of
from job.data.write import SUFFIXES, write_table
from job.errors import JobError, OutputError, first_line
from job.system.durable import replace_durably

log = logging.getLogger(__name__)

Edit = Callable[[Path, Path, AddedColumns, str | None], None]
"""Writes a source with further columns to a target; the last is the sheet that is read of a workbook."""
EDITORS: dict[str, Edit] = {
    **dict.fromkeys((".xlsx", ".xlsm"), edit_workbook_of),
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".dat"), lambda source, target, added, _: edit_delimited(source, target, added)),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), lambda source, target, added, _: edit_json(source, target, added)),
    ".parquet": lambda source, target, added, _: edit_parquet(source, target, added),
    ".arrow": lambda source, target, added, _: edit_arrow(source, target, added),
}
NEW_FORMAT = {".xls": ".xlsx", ".ods": ".xlsx"}
"""What takes the place of formats that are read and cannot be written."""


@dataclass(frozen=True)
class Columns:
    """Further columns of a whole table."""

    names: tuple[str, ...]
    cells: Sequence[tuple[Cell, ...]]
    """A row each; nothing but None in those that were not asked."""


@dataclass(frozen=True)
class Destination:
    """Where a table with further columns goes."""

    path: Path
    """A file, or the folder of several."""
    files: tuple[tuple[Path, Path], ...]
    """The files of the table and where each comes back; none where one new table is written."""

    @property
    def suffix(self) -> str:
        """The format of a new table."""
        return self.path.suffix.lower()


def choose_destination(location: str, found: Found | None, wanted: str | None, default: Path) -> Destination:
    """Where the table at `location` goes: to `wanted`, else into the folder `default`, under its own name.

    found: its files; None where it has none of its own, as on the hub. Raises OutputError where nothing can be written there.
    """
    files = [path for paths in found.parts.values() for path in paths] if found else []
    if found and (found.folder or len(files) > 1) and (wanted is None or Path(wanted).suffix.lower() not in SUFFIXES):
        name = (found.folder or Path(location)).resolve().name
        folder = Path(wanted) if wanted else default / name
        destination = Destination(folder, tuple((path, folder / found.name(path)) for path in files))
    elif len(files) == 1:
        destination = _of_one(files[0], wanted, default)
    else:
        name = f"{Path(location).name}.jsonl"
        destination = Destination(_file(wanted, name) if wanted else default / name, ())
    _check(destination, files)
    return destination


def _of_one(source: Path, wanted: str | None, default: Path) -> Destination:
    inner = Path(inner_name(source))
    new = NEW_FORMAT.get(inner.suffix.lower())
    own_name = f"{inner.stem}{new}" if new else source.name
    if new and (wanted is None or Path(wanted).suffix == ""):
        log.warning("%s: %s files cannot be written; the answers go to a new %s", source.name, inner.suffix, new)
    path = _file(wanted, own_name) if wanted else default / own_name
    return Destination(path, ((source, path),) if _kind(source) == _kind(path) and _kind(path)[0] in EDITORS else ())


def _file(wanted: str, name: str) -> Path:
    """The file that a person named; in it, where that is a folder."""
    path = Path(wanted)
    return path / name if path.is_dir() or wanted.endswith("/") else path


def _kind(path: Path) -> tuple[str, str]:
    """The format, and how it is compressed."""
    inner = Path(inner_name(path)).suffix.lower()
    packed = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    return (".zip" if packed == ".zip" else {".ndjson": ".jsonl"}.get(inner, inner)), packed


def _check(destination: Destination, sources: Sequence[Path]) -> None:
    """Raises OutputError for formats that cannot be written, for the person's own files, and for places that cannot be written."""
    targets = [target for _, target in destination.files] or [destination.path]
    for source, target in destination.files:
        suffix = Path(inner_name(source)).suffix.lower()
        if suffix not in EDITORS and source.suffix.lower() != ".zip":
            raise OutputError(f"{target}: cannot write {suffix}. Name one file for all rows, such as answers.xlsx.")
    if not destination.files and destination.suffix not in SUFFIXES:
        ending = destination.suffix or "a file without an ending"
        raise OutputError(f"{destination.path}: cannot write {ending}. Use one of {', '.join(SUFFIXES)}.")
    real = {source.resolve() for source in sources}
    if own := next((target for target in targets if target.resolve() in real), None):
        raise OutputError(f"{own}: the answers would overwrite the questions. Name another file.")
    for target in targets:
        with _told(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError(None, "a folder of that name is there")
            partial = _partial(target)
            partial.open("a").close()
            partial.unlink()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}. Choose another place.") from None


def rehearse(destination: Destination, table: Table, names: tuple[str, ...]) -> None:
    """Writes the table with empty cells and takes it away again: what fails is told before there are answers to lose."""
    for path in _written(destination, table, Columns(names, [(None,) * len(names)] * len(table.rows))):
        path.unlink()


def give_back(destination: Destination, table: Table, columns: Columns) -> None:
    """Writes the table with `columns`, each file moved into place whole."""
    for partial in list(_written(destination, table, columns)):
        replace_durably(partial, partial.with_name(partial.name.removesuffix(".partial")))


def is_editable(table: Table) -> bool:
    """Whether each row has a place of its own in its file: one number to a row."""
    start = 0
    for count in [rows for _, rows in table.files] or [len(table.rows)]:
        numbers = _numbers(table)[start : start + count]
        if len(set(numbers)) < count:
            return False
        start += count
    return True


def _numbers(table: Table) -> Sequence[int]:
    return range(1, len(table.rows) + 1) if table.numbers is None else table.numbers


def _written(destination: Destination, table: Table, columns: Columns) -> Iterator[Path]:
    """The files with `columns`, each beside its place."""
    if not destination.files:
        partial = _partial(destination.path)
        with _removed_if_it_fails(destination.path, partial):
            write_table(_as_arrow(table, columns), partial, destination.suffix, columns.names[0])
        yield partial
        return
    start = 0
    counts = [rows for _, rows in table.files] or [len(table.rows)]
    for (source, target), count in zip(destination.files, counts, strict=True):
        numbers, cells = _numbers(table)[start : start + count], columns.cells[start : start + count]
        partial = _partial(target)
        with _removed_if_it_fails(target, partial):
            _edit(source, partial, AddedColumns(columns.names, dict(zip(numbers, cells, strict=True))), table.source.sheet)
        yield partial
        start += count


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _edit(source: Path, partial: Path, added: AddedColumns, sheet: str | None) -> None:
    with unpacked(str(source), source) as inner:
        edit = EDITORS[inner.suffix.lower()]
        if inner == source:
            edit(source, partial, added, sheet)
        else:
            edited = inner.with_name(f"edited-{inner.name}")
            edit(inner, edited, added, sheet)
            repack(edited, source, partial)


@contextlib.contextmanager
def _removed_if_it_fails(path: Path, partial: Path) -> Iterator[None]:
    """Removes what was written so far where the rest fails. Raises OutputError for what a file in this format cannot hold."""
    try:
        with _told(path):
            yield
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, JobError | OSError) or not isinstance(error, Exception):
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        raise OutputError(f"{path}: the table cannot be written so ({said}). Name a file with another ending.") from error


def _as_arrow(table: Table, columns: Columns) -> pa.Table:
    """The rows with their new columns."""
    made: pa.Table = table.rows.with_format("arrow")[:]
    for place, name in enumerate(columns.names):
        made = made.append_column(name, pa.array([row[place] for row in columns.cells]))
    return made.replace_schema_metadata(None)
