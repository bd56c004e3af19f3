"""A person's own files, given back with further columns: same format, same order, all else as it was."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from job.data.added_columns import AddedColumns, Cell, NoPlaceError, Notes
from job.data.delimited_edit import edit_delimited
from job.data.json_edit import edit_json
from job.data.parquet_edit import edit_arrow, edit_parquet
from job.data.places import Found, find_files, locate, place_errors
from job.data.read import SUFFIXES as READABLE
from job.data.read import Source, Table
from job.data.repack import repack
from job.data.sheet_edit import edit_workbook
from job.data.unpack import COMPRESSED, inner_name, unpacked
from job.data.workbook import table_place
from job.data.write import SUFFIXES, write_table
from job.errors import DataError, JobError, OutputError, first_line
from job.system.durable import is_disk_full, replace_durably
from job.system.folders import ensure_writable

log = logging.getLogger(__name__)


def _edit_workbook(source: Path, target: Path, added: AddedColumns, sheet: str | None) -> Notes:
    part, header = table_place(str(source), source, sheet)
    return edit_workbook(source, target, part, header, added)


Edit = Callable[[Path, Path, AddedColumns, str | None], Notes]
"""Writes a source with further columns to a target; the last is the sheet that is read of a workbook."""
EDITORS: dict[str, Edit] = {
    **dict.fromkeys((".xlsx", ".xlsm"), _edit_workbook),
    **dict.fromkeys(
        (".csv", ".tsv", ".tab", ".txt", ".dat"), lambda source, target, added, _: edit_delimited(source, target, added)
    ),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), lambda source, target, added, _: edit_json(source, target, added)),
    ".parquet": lambda source, target, added, _: edit_parquet(source, target, added),
    ".arrow": lambda source, target, added, _: edit_arrow(source, target, added),
}
SAVED = ("state.json", "dataset_dict.json")
"""What is in a folder that `datasets` saved."""
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
    found: tuple[tuple[Path, int, int], ...]
    """The files of the table, with the time and the size that they had."""

    @property
    def suffix(self) -> str:
        """The format of a new table."""
        return self.path.suffix.lower()

    @property
    def folder(self) -> Path:
        """An existing folder that is written to."""
        return self.path.parent

    def check_unchanged(self, kept: Path) -> None:
        """Raises DataError if a file changed since it was read. kept: where its answers are."""
        if changed := [path for path, *before in self.found if _state(path)[1:] != tuple(before)]:
            raise DataError(
                f"FILE={changed[0]}: it changed while its rows were answered. Run the same command again; the answers are kept in "
                f"{kept} and serve as long as the inputs are the same."
            )


def _state(path: Path) -> tuple[Path, int, int]:
    state = path.stat() if path.exists() else None
    return path, state.st_mtime_ns if state else 0, state.st_size if state else 0


def choose_destination(source: Source, wanted: str | None, default: Path) -> Destination:
    """Where the table of `source` goes: to `wanted`, else into the folder `default`, under its own name.

    Raises OutputError where nothing can be written there, InputMissing where there is no table.
    """
    found = _find(source)
    files = [path for paths in found.parts.values() for path in paths] if found else []
    if found and len(files) > 1 and (wanted is None or Path(wanted).suffix.lower() not in SUFFIXES):
        folder = Path(wanted) if wanted else default / (found.folder or Path()).resolve().name
        path, pairs = folder, tuple((path, folder / found.name(path)) for path in files)
    elif len(files) == 1:
        path, pairs = _of_one(files[0], wanted, default)
    else:
        name = f"{(found.folder if found and found.folder else Path(source.location)).name}.jsonl"
        path, pairs = _file(wanted, name) if wanted else default / name, ()
    destination = Destination(path, pairs, tuple(map(_state, files)))
    _check(destination)
    return destination


def _find(source: Source) -> Found | None:
    """The files of a table; None for what is saved by `datasets` or on the hub."""
    with place_errors(str(source)):
        folder, _ = locate(str(source), source.location)
        if folder and any((folder / name).is_file() for name in SAVED):
            return None
        return find_files(str(source), source.location, READABLE)


def _of_one(source: Path, wanted: str | None, default: Path) -> tuple[Path, tuple[tuple[Path, Path], ...]]:
    inner = Path(inner_name(source))
    new = NEW_FORMAT.get(inner.suffix.lower())
    own_name = f"{inner.stem}{new}" if new else source.name
    if new and (wanted is None or Path(wanted).suffix == ""):
        log.warning("%s: %s files cannot be written; the answers go to a new %s", source.name, inner.suffix, new)
    path = _file(wanted, own_name) if wanted else default / own_name
    can_be_edited = _kind(source) == _kind(path) and (_kind(path)[0] in EDITORS or _kind(path)[1] == ".zip")
    return path, ((source, path),) if can_be_edited else ()


def _file(wanted: str, name: str) -> Path:
    """The file that a person named; in it, where that is a folder."""
    path = Path(wanted)
    return path / name if path.is_dir() or wanted.endswith("/") else path


def _kind(path: Path) -> tuple[str, str]:
    """The format, and how it is compressed."""
    inner = Path(inner_name(path)).suffix.lower()
    packed = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    return (".zip" if packed == ".zip" else {".ndjson": ".jsonl"}.get(inner, inner)), packed


def _check(destination: Destination) -> None:
    """Raises OutputError for formats that cannot be written, for the person's own files, and for places that cannot be written."""
    targets = [target for _, target in destination.files] or [destination.path]
    for source, target in destination.files:
        suffix = Path(inner_name(source)).suffix.lower()
        if suffix not in EDITORS and source.suffix.lower() != ".zip":
            raise OutputError(f"{target}: cannot write {suffix}. Name one file for all rows, such as answers.xlsx.")
    if not destination.files and destination.suffix not in SUFFIXES:
        ending = destination.suffix or "a file without an ending"
        raise OutputError(f"{destination.path}: cannot write {ending}. Use one of {', '.join(SUFFIXES)}.")
    real = {source.resolve() for source, *_ in destination.found}
    if own := next((target for target in targets if target.resolve() in real), None):
        raise OutputError(f"{own}: the answers would overwrite the questions. Name another file.")
    for target in targets:
        ensure_writable(target.parent, str(target))
        if target.is_dir():
            raise OutputError(f"{target}: a folder of that name is there. Choose another place.")


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
    _check(new)
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
        numbers = _numbers(table)[start : start + count]
        if len(set(numbers)) < count:
            return False
        start += count
    return True


def _numbers(table: Table) -> Sequence[int]:
    return range(1, len(table.rows) + 1) if table.numbers is None else table.numbers


def _written(destination: Destination, table: Table, columns: Columns) -> Iterator[tuple[Path, Path, Notes]]:
    """The files with `columns`, each beside its place; the place; and what is told of it."""
    if not destination.files:
        partial = _partial(destination.path)
        with _removed_if_it_fails(destination.path, partial):
            notes = write_table(_as_arrow(table, columns), partial, destination.suffix, columns.names[0])
        yield partial, destination.path, notes
        return
    start = 0
    counts = [rows for _, rows in table.files] or [len(table.rows)]
    for (source, target), count in zip(destination.files, counts, strict=True):
        numbers, cells = _numbers(table)[start : start + count], columns.cells[start : start + count]
        partial = _partial(target)
        with _removed_if_it_fails(target, partial):
            added = AddedColumns(columns.names, dict(zip(numbers, cells, strict=True)))
            notes = _edit(source, partial, added, table.source.sheet)
        yield partial, target, notes
        start += count


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _edit(source: Path, partial: Path, added: AddedColumns, sheet: str | None) -> Notes:
    with unpacked(str(source), source) as inner:
        edit = EDITORS[inner.suffix.lower()]
        if inner == source:
            return edit(source, partial, added, sheet)
        edited = inner.with_name(f"edited-{inner.name}")
        notes = edit(inner, edited, added, sheet)
        repack(edited, source, partial)
        return notes


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
