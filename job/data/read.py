"""One table from any format: spreadsheets, text tables, JSON, parquet, arrow, saved datasets, the hub."""

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk

from job.data.delimited import read_delimited, read_lines
from job.data.file_rows import Cells, FileRows, quoted
from job.data.json_rows import read_json, read_json_lines
from job.data.token_lengths import ROWS_AT_ONCE
from job.data.workbook import WORKBOOKS, read_workbook
from job.errors import DataError, InputMissing, first_line
from job.system.hub import hub_errors

MAPPED = {".parquet": Dataset.from_parquet, ".arrow": Dataset.from_file}
"""Formats that are mapped into memory instead of read into it."""

SUFFIXES = (*WORKBOOKS, ".csv", ".tsv", ".jsonl", ".json", ".txt", *MAPPED)


@dataclass(frozen=True)
class Source:
    """Where a table comes from."""

    variable: str
    """Name of the variable that names it, for messages."""
    location: str
    """File, folder, glob or hub dataset id."""
    sheet: str | None = None
    split: str = "train"
    token: str | None = None

    def __str__(self) -> str:
        return f"{self.variable}={self.location}"


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
    repeated: frozenset[str] = frozenset()
    """Names that several columns of a file have: no fault unless one of them is used."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Columns whose cells are not what they should be: what is wrong and what to do, no fault unless one of them is used."""
    odd_cells: dict[str, int] = field(default_factory=dict)
    """Index of the first cell that is not text, in columns whose cells are of several types."""

    def row_name(self, index: int) -> str:
        """What a person calls the row at `index`: "row 7", or with several files "a.csv row 7"."""
        number, before = index + 1 if self.numbers is None else self.numbers[index], 0
        for name, rows in self.files:
            if index < before + rows:
                return f"{name} row {number}"
            before += rows
        return f"row {number}"

    def check_usable(self, names: Sequence[str]) -> None:
        """Raises DataError for the first of the columns `names` whose cells are not what they should be, or that is there twice."""
        for name in names:
            if name in self.repeated:
                raise DataError(f'{self.source}: two columns are named "{name}". Rename one of them.')
            if name in self.unusable:
                raise DataError(f'{self.source}: column "{name}": {self.unusable[name]}.')

    def cells(self, column: str) -> Iterator[Any]:
        """The cells of a column, few of them in memory at once."""
        for batch in self.rows.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
            yield from batch[column]


def read_table(source: Source) -> Table:
    """The rows of `source`, every text cell as it stands (no "NA" turned into null, no "007" into 7).

    Raises InputMissing if it is not there, DataError if it cannot be read or has no rows, Transient or AccessDenied
    for the hub.
    """
    path = Path(source.location)
    if path.is_dir() and ((path / "state.json").exists() or (path / "dataset_dict.json").exists()):
        table = Table(source, _read_saved(source))
    elif path.exists() or glob.has_magic(source.location) or path.suffix in SUFFIXES or source.location.startswith((".", "/", "~")):
        table = _read_files(source)
    elif source.location.count("/") <= 1:
        table = Table(source, _read_hub(source))
    else:
        raise InputMissing(f"{source}: no such file. Check the path; in a container it begins with /data/.")
    if len(table.rows) == 0:
        raise DataError(f"{source}: no rows. Put at least a header and some rows into it.")
    return table


def _read_files(source: Source) -> Table:
    tables = [_read_file(source, path) for path in _find_files(source)]
    if len(tables) == 1:
        return tables[0]
    columns = {path: tuple(sorted(table.rows.column_names)) for path, table in zip(_find_files(source), tables, strict=True)}
    first, *others = columns
    if odd := next((path for path in others if columns[path] != columns[first]), None):
        raise DataError(
            f"{source}: {first.name} has the columns {quoted(columns[first])}, {odd.name} has {quoted(columns[odd])}. "
            "Give all files the same columns."
        )
    numbers = [number for table in tables for number in table.numbers or range(1, len(table.rows) + 1)]
    files = tuple((path.name, len(table.rows)) for path, table in zip(columns, tables, strict=True))
    notes = tuple(note for table in tables for note in table.notes)
    every = zip(columns, tables, strict=True)
    unusable = {name: f"{path.name}: {why}" for path, table in every for name, why in table.unusable.items()}
    repeated = frozenset(name for table in tables for name in table.repeated)
    rows = concatenate_datasets([table.rows for table in tables])
    return Table(source, rows, numbers, files, notes, repeated=repeated, unusable=unusable)


def _find_files(source: Source) -> list[Path]:
    path = Path(source.location).expanduser()
    if path.is_file():
        return [path]
    pattern = str(path / "*") if path.is_dir() else str(path)
    files = sorted(Path(name) for name in glob.glob(pattern) if Path(name).suffix.lower() in SUFFIXES)
    if files:
        return files
    if path.is_dir() or glob.has_magic(source.location):
        raise InputMissing(f"{source}: no file there that ends in {', '.join(SUFFIXES)}.")
    raise InputMissing(f"{source}: no such file. Check the path; in a container it begins with /data/.")


def _read_file(source: Source, path: Path) -> Table:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{source}: cannot read {suffix or 'a file without an ending'}. Save it as one of {', '.join(SUFFIXES)}.")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{source}: {path.name} is empty. Put at least a header and some rows into it.")
        if suffix in MAPPED:
            return Table(source, _read_mapped(source, path))
        found = _read_rows(source, path)
    except OSError as error:
        raise InputMissing(f"{source}: {path.name} cannot be opened: {error.strerror or first_line(error)}.") from None
    rows, odd_cells = in_memory(found.columns)
    return Table(
        source, rows, found.numbers, notes=found.notes, repeated=found.repeated, unusable=found.unusable, odd_cells=odd_cells
    )


def _read_rows(source: Source, path: Path) -> FileRows:
    """The rows of a file that is read into memory."""
    suffix, where = path.suffix.lower(), str(source)
    if suffix in WORKBOOKS:
        return read_workbook(where, path, source.sheet)
    readers = {".csv": read_delimited, ".tsv": read_delimited, ".jsonl": read_json_lines, ".json": read_json, ".txt": read_lines}
    return readers[suffix](where, path)


def _read_mapped(source: Source, path: Path) -> Dataset:
    """The rows of a parquet or arrow file, every value looked at once: damage would else show in the middle of the work."""
    try:
        rows = MAPPED[path.suffix.lower()](str(path))
        rows.data.table.validate(full=True)
    except Exception as error:  # damaged files raise nearly anything: Arrow's, thrift's, JSON's and Unicode's errors
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(
            f"{source}: {path.name} is damaged or not a {path.suffix} file: {first_line(error)}. Save it once more."
        ) from None
    return rows


def _read_saved(source: Source) -> Dataset:
    try:
        saved = load_from_disk(source.location)
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"{source}: no complete dataset is saved there ({first_line(error)}). Save it once more.") from None
    if not isinstance(saved, DatasetDict):
        return saved
    if source.split not in saved:
        raise DataError(
            f'{source}: no split "{source.split}"; found {quoted(saved)}. Set {_split_variable(source)} to one of them.'
        )
    return saved[source.split]


def _read_hub(source: Source) -> Dataset:
    with hub_errors(f"{source}: no such file here and the hub"):
        try:
            return load_dataset(source.location, split=source.split, token=source.token)
        except ValueError as error:
            raise DataError(f"{source}: {first_line(error)} Check {_split_variable(source)}={source.split}.") from None


def _split_variable(source: Source) -> str:
    return source.variable.replace("_DATA", "_SPLIT")


def in_memory(columns: Cells) -> tuple[Dataset, dict[str, int]]:
    """The dataset of `columns`, and the index of the first odd cell in each column whose cells are not all of one type."""
    arrays, odd_cells = {}, {}
    for name, cells in columns.items():
        try:
            arrays[name] = _exact(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            arrays[name] = pa.array([cell if cell is None else _as_text(cell) for cell in cells])
            odd_cells[name] = next((index for index, cell in enumerate(cells) if not isinstance(cell, str | None)), 0)
    return Dataset(pa.table(arrays)), odd_cells


def _exact(cells: list) -> pa.Array:
    """The cells as Arrow has them. ArrowInvalid for lists and dicts that it would change: keys added, others sorted, 1 as 1.0."""
    array = pa.array(cells)
    if pa.types.is_nested(array.type) and json.dumps(array.to_pylist()) != json.dumps(cells):
        raise pa.ArrowInvalid("cells of different forms")
    return array


def _as_text(cell: object) -> str:
    """A cell of a column whose cells are of different forms."""
    return json.dumps(cell) if isinstance(cell, dict | list) else str(cell)
