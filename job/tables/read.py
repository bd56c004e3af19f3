"""One table from any format: spreadsheets, text tables, JSON, parquet, arrow, saved datasets, the hub."""

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from job.errors import DataError, InputMissing, first_line
from job.system.file_system import CANNOT_WRITE
from job.system.hub import hub_errors
from job.tables.arrow_files import ARROW_FORMATS, read_arrow
from job.tables.cell_text import as_text, text_rows
from job.tables.content_kind import describe_unreadable
from job.tables.delimited import read_delimited, read_text
from job.tables.file_rows import Cells, FileRows, printable, quoted
from job.tables.join import join
from job.tables.json_rows import read_json
from job.tables.parts import ALL, HELD_OUT, PART_OF, choose_splits, part_of, split_column
from job.tables.places import Found, find_files, listed, locate, nearest, place_errors
from job.tables.table import Source, Table
from job.tables.unpack import unpacked
from job.tables.workbook import WORKBOOKS, read_workbook

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
SUFFIXES = (*WORKBOOKS, *READERS, *ARROW_FORMATS)


def read_table(source: Source) -> Table:
    """The rows of `source`, every text cell as it stands (no "NA" turned into null, no "007" into 7).

    Raises InputMissing if it is not there, DataError if it cannot be read or has no rows, Transient or AccessDenied
    for the hub.
    """
    where = str(source)
    with place_errors(where):
        folder, _ = locate(where, source.location)
        if folder and is_saved(folder):
            table = _choose_split(source, _load_saved(source, folder))
        elif found := find_files(where, source.location, SUFFIXES):
            table = _read_files(source, found)
        else:
            table = _read_hub(source)
    if table.held_out is None and source.split != ALL:
        table = _by_split_column(table)
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
    named = [(found.name(path), _read_file(source, path, found.name(path) if several else None)) for path in paths]
    if not several:
        return named[0][1]
    rows, notes = join([(name, table.rows) for name, table in named])
    numbers = [number for _, table in named for number in table.all_numbers()]
    files = tuple((name, len(table.rows)) for name, table in named)
    notes = (*notes, *(note for _, table in named for note in table.notes))
    kept_as_json = {name for _, table in named for name in (*table.kept_as_json, *_nested(table.rows))} - _nested(rows)
    unusable = {column: f"{name}: {why}" for name, table in named for column, why in table.unusable.items()}
    return Table(source, rows, numbers, files, notes, unusable=unusable, kept_as_json=frozenset(kept_as_json))


def _by_split_column(table: Table) -> Table:
    """The training rows of a table with a column that says "train" or "test" of each row, the others held apart."""
    name = split_column(table.rows.column_names)
    told = [str(cell or "").strip() for cell in table.cells(name)] if name else []
    if not all(word.lower() in PART_OF for word in told):
        return table
    rows = {word: [index for index, other in enumerate(told) if other == word] for word in dict.fromkeys(told)}
    wanted, held_out = choose_splits(list(rows), next((word for word in rows if part_of(word) == "train"), "train"))
    if wanted is None or held_out is None:
        return table
    if part_of(table.source.split) in HELD_OUT:  # EVAL_DATA is a file that holds both
        return table.select(rows[held_out])
    said = f'column "{name}": the rows of "{wanted}" are trained on, those of "{held_out}" kept apart for the evaluation'
    unused = [word for word in rows if word not in (wanted, held_out)]
    notes = (*table.notes, f"{said}{f', those of {listed(unused)} not used' if unused else ''}.")
    return replace(table.select(rows[wanted]), notes=notes, held_out=replace(table.select(rows[held_out]), notes=()))


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
                raise DataError(f"{where}: {describe_unreadable(inner, SUFFIXES)}")
            if suffix in ARROW_FORMATS:
                rows, unusable = read_arrow(where, inner)
                return Table(source, text_rows(rows), unusable=unusable)
            found = _read_inner(source, where, inner)
    except OSError as error:
        if error.errno in CANNOT_WRITE:  # not the file: what is unpacked or converted of it
            raise
        raise InputMissing(f"{where}: {printable(path.name)} cannot be opened: {error.strerror or first_line(error)}.") from None
    table = _of_file(source, found)
    return replace(table, held_out=_of_file(source, found.held_out)) if found.held_out else table


def _read_inner(source: Source, where: str, path: Path) -> FileRows:
    """The rows of a file that is not compressed, read by the module of its format."""
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS:
        return read_workbook(where, path, source.sheet)
    if READERS[suffix] is read_json:
        return read_json(where, path, every_part=source.split == ALL)
    return READERS[suffix](where, path)


def _of_file(source: Source, found: FileRows) -> Table:
    rows, kept_as_json = in_memory(found.columns)
    return Table(
        source,
        rows,
        found.numbers,
        notes=found.notes,
        unusable=found.unusable,
        kept_as_json=kept_as_json,
        other_sheets=found.other_sheets,
    )


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a dataset there."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


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
        rows, notes = join([(name, text_rows(split)) for name, split in loaded.items()])
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
