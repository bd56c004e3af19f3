"""One table from any format: spreadsheets, text tables, JSON, parquet, arrow, saved datasets, the hub."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from job.errors import DataError, InputMissing, first_line
from job.system.hub import hub_errors
from job.tables.cell_text import as_text, text_rows
from job.tables.delimited import read_delimited, read_text
from job.tables.file_rows import ROWS_AT_ONCE, Cells, FileRows, printable, quoted
from job.tables.join import join
from job.tables.json_rows import read_json
from job.tables.parts import ALL, HELD_OUT, choose_splits, part_of
from job.tables.places import Found, find_files, listed, locate, nearest, place_errors
from job.tables.unpack import unpacked
from job.tables.workbook import WORKBOOKS, read_workbook

MAPPED = {".parquet": Dataset.from_parquet, ".arrow": Dataset.from_file}
"""Formats that are mapped into memory instead of read into it."""

READERS = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".tab": read_delimited,
    ".txt": read_text,
    ".dat": read_text,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
}
SUFFIXES = (*WORKBOOKS, *READERS, *MAPPED)


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

    def cells(self, column: str) -> Iterator[Any]:
        """The cells of a column, few of them in memory at once."""
        for batch in self.rows.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
            yield from batch[column]


def read_table(source: Source) -> Table:
    """The rows of `source`, every text cell as it stands (no "NA" turned into null, no "007" into 7).

    Raises InputMissing if it is not there, DataError if it cannot be read or has no rows, Transient or AccessDenied
    for the hub.
    """
    where = str(source)
    with place_errors(where):
        folder, _ = locate(where, source.location)
        if folder and any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            table = _choose_split(source, _load_saved(source, folder))
        elif found := find_files(where, source.location, SUFFIXES):
            table = _read_files(source, found)
        else:
            table = _read_hub(source)
    if len(table.rows) == 0:
        below = f" below {quoted(table.rows.column_names[:5])}" if table.rows.column_names else ""
        raise DataError(f"{source}: no rows{below}. Put at least a header and some rows into it.")
    return table


def _read_files(source: Source, found: Found) -> Table:
    """The files of the part that is wanted, with those that are held out from its training."""
    parts = found.parts
    wanted, held_out = choose_splits(list(parts), source.split)
    if source.split == ALL or list(parts) == ["train"]:
        chosen = [path for paths in parts.values() for path in paths]
    elif wanted:
        chosen = parts[wanted]
    else:
        there = "; ".join(f"{part}: {listed([found.name(path) for path in paths])}" for part, paths in parts.items())
        raise DataError(
            f'{source}: no part "{source.split}" ({there}). Set {_split_variable(source)} to one of them, or name a file.'
        )
    table = _join(source, found, chosen)
    notes = (*found.notes, *table.notes)
    if len(parts) > 1 and source.split != ALL:
        notes = (_describe(found, wanted, held_out), *notes)
    if held_out:
        return replace(table, notes=notes, held_out=_join(source, found, parts[held_out]))
    if table.held_out and part_of(source.split) in HELD_OUT:  # EVAL_DATA is a file that holds both
        return replace(table.held_out, notes=notes)
    return replace(table, notes=notes)


def _describe(found: Found, wanted: str | None, held_out: str | None) -> str:
    """What became of which file."""
    names = {part: [found.name(path) for path in paths] for part, paths in found.parts.items()}
    unused = [name for part, there in names.items() if part not in (wanted, held_out) for name in there]
    said = [f"{listed(names[wanted])}: {wanted}"] if wanted else []
    said += [f"{listed(names[held_out])}: kept apart for the evaluation"] if held_out else []
    said += [f"{listed(unused)}: not used"] if unused else []
    return "; ".join(said) + "."


def _join(source: Source, found: Found, paths: list[Path]) -> Table:
    """The rows of all `paths`; a column that a file lacks is empty there."""
    several = sum(map(len, found.parts.values())) > 1
    tables = {found.name(path): _read_file(source, path, found.name(path) if several else None) for path in paths}
    if not several:
        return next(iter(tables.values()))
    rows, notes = join({name: table.rows for name, table in tables.items()})
    numbers = [number for table in tables.values() for number in table.numbers or range(1, len(table.rows) + 1)]
    files = tuple((name, len(table.rows)) for name, table in tables.items())
    notes = (*notes, *(note for table in tables.values() for note in table.notes))
    kept_as_json = {name for table in tables.values() for name in (*table.kept_as_json, *_nested(table.rows))} - _nested(rows)
    unusable = {column: f"{name}: {why}" for name, table in tables.items() for column, why in table.unusable.items()}
    return Table(source, rows, numbers, files, notes, unusable=unusable, kept_as_json=frozenset(kept_as_json))


def _nested(rows: Dataset) -> set[str]:
    return {name for name in rows.column_names if pa.types.is_nested(rows.data.column(name).type)}


def _read_file(source: Source, path: Path, name: str | None) -> Table:
    """name: what a person calls the file, where there are several."""
    where = f"{source}: {name}" if name else str(source)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{where}: {printable(path.name)} is empty. Put at least a header and some rows into it.")
        with unpacked(where, path) as inner:
            suffix = inner.suffix.lower()
            if suffix not in SUFFIXES:
                ending = suffix or "a file without an ending"
                raise DataError(f"{where}: cannot read {ending}. Save it as one of {', '.join(SUFFIXES)}.")
            if suffix in MAPPED:
                return Table(source, text_rows(_read_mapped(where, inner)))
            found = READERS[suffix](where, inner) if suffix in READERS else read_workbook(where, inner, source.sheet)
    except OSError as error:
        raise InputMissing(f"{where}: {printable(path.name)} cannot be opened: {error.strerror or first_line(error)}.") from None
    table = _of_file(source, found)
    return replace(table, held_out=_of_file(source, found.held_out)) if found.held_out else table


def _of_file(source: Source, found: FileRows) -> Table:
    rows, kept_as_json = in_memory(found.columns)
    return Table(source, rows, found.numbers, notes=found.notes, unusable=found.unusable, kept_as_json=kept_as_json)


def _read_mapped(where: str, path: Path) -> Dataset:
    """The rows of a parquet or arrow file, every value looked at once: damage would else show in the middle of the work."""
    try:
        rows = MAPPED[path.suffix.lower()](str(path))
        rows.data.table.validate(full=True)
    except Exception as error:  # damaged files raise nearly anything: Arrow's, thrift's, JSON's and Unicode's errors
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(
            f"{where}: {path.name} is damaged or not a {path.suffix} file: {first_line(error)}. Save it once more."
        ) from None
    return rows


def _load_saved(source: Source, folder: Path) -> Dataset | DatasetDict:
    try:
        return load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"{source}: no complete dataset is saved there ({first_line(error)}). Save it once more.") from None


def _choose_split(source: Source, loaded: Dataset | DatasetDict) -> Table:
    """The split that is wanted, with the one that is held out from its training."""
    if isinstance(loaded, Dataset):
        return Table(source, text_rows(loaded))
    if source.split == ALL:
        rows, notes = join({name: text_rows(split) for name, split in loaded.items()})
        return Table(source, rows, notes=notes)
    wanted, held_out = choose_splits(list(loaded), source.split)
    if wanted is None:
        raise DataError(
            f'{source}: no split "{source.split}"; found {quoted(loaded)}. Set {_split_variable(source)} to one of them.'
        )
    if held_out is None:
        notes = () if wanted == source.split else (f'split "{wanted}" is read, as there is no "{source.split}".',)
        return Table(source, text_rows(loaded[wanted]), notes=notes)
    notes = (f'split "{wanted}" is read, "{held_out}" kept apart for the evaluation.',)
    return Table(source, text_rows(loaded[wanted]), notes=notes, held_out=Table(source, text_rows(loaded[held_out])))


def _read_hub(source: Source) -> Table:
    near = nearest(source.location, SUFFIXES) if "/" not in source.location else []
    with hub_errors(f"{source}: no such file here{f' but {listed(near)}' if near else ''}, and the hub"):
        try:
            if re.fullmatch(r"\w+(\.\w+)*", source.split):
                return _choose_split(source, load_dataset(source.location, token=source.token))
            return Table(source, text_rows(load_dataset(source.location, split=source.split, token=source.token)))
        except ValueError as error:
            raise DataError(f"{source}: {first_line(error)} Check {_split_variable(source)}={source.split}.") from None


def _split_variable(source: Source) -> str:
    return source.variable.replace("_DATA", "_SPLIT")


def in_memory(columns: Cells) -> tuple[Dataset, frozenset[str]]:
    """The dataset of `columns`, cells as text unless they nest, and the columns that are kept as JSON."""
    texts = {name: [as_text(cell) for cell in cells] for name, cells in columns.items()}
    arrays, kept_as_json = {}, set()
    for name, cells in texts.items():
        try:
            arrays[name] = _exact(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            arrays[name] = pa.array([_as_json(cell) for cell in cells])
            kept_as_json.add(name)
    return Dataset(pa.table(arrays)), frozenset(kept_as_json)


def _exact(cells: list) -> pa.Array:
    """The cells as Arrow has them. ArrowInvalid for lists and dicts that it would change: keys added, others sorted, 1 as 1.0."""
    if all(isinstance(cell, str | None) for cell in cells):
        return pa.array(cells, pa.string())
    array = pa.array(cells)
    with contextlib.suppress(TypeError):  # what PREPROCESS may return and JSON has no form for: bytes, arrays
        if pa.types.is_nested(array.type) and json.dumps(array.to_pylist()) != json.dumps(cells):
            raise pa.ArrowInvalid("cells of different forms")
    return array


def _as_json(cell: object) -> object:
    """A cell of a column whose cells are of different forms."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else cell
