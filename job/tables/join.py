"""The rows of several files as one table."""

from collections.abc import Sequence

import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from job.tables.cell_text import shown
from job.tables.column_names import find_name


def join(files: Sequence[tuple[str, Dataset]]) -> tuple[Dataset, tuple[str, ...]]:
    """All rows, in the order of the files, and a note of the columns that not all have: they are empty where a file lacks them.

    A column of different types is text everywhere.
    """
    files = _alike_spelt(files)
    tables = [table for _, table in files]
    if all(table.features == tables[0].features for table in tables):
        return concatenate_datasets(tables), ()
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    notes = []
    for name in names:
        if lacking := [file for file, table in files if name not in table.column_names]:
            others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            notes.append(f'{lacking[0]}{others}: no column "{name}", which other files have; it is empty there.')
    arrow = [table.data.table for table in tables]
    columns = {name: [_column(table, name) for table in arrow] for name in names}
    joined = {name: _same_type(parts) for name, parts in columns.items()}
    return Dataset(pa.table(joined)), tuple(notes)


def _alike_spelt(files: Sequence[tuple[str, Dataset]]) -> list[tuple[str, Dataset]]:
    """`files`, in which a column is called as in the first of them that has it: "Input " is "input"."""
    names: list[str] = []
    spelt = []
    for file, table in files:
        lacking = [name for name in names if name not in table.column_names]
        called = {name: find_name(lacking, name) for name in table.column_names if name not in names}
        changed = {name: other for name, other in called.items() if other}
        if changed and len(set(changed.values())) == len(changed):
            table = table.rename_columns(changed)  # noqa: PLW2901
        names += [name for name in table.column_names if name not in names]
        spelt.append((file, table))
    return spelt


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table.column(name) if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])


def _same_type(parts: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    kinds = {part.type for part in parts if not pa.types.is_null(part.type)}
    kind = kinds.pop() if len(kinds) == 1 else pa.large_string() if kinds else pa.null()
    chunks = [chunk for part in parts for chunk in (part if part.type == kind else _as(part, kind)).chunks]
    return pa.chunked_array(chunks, type=kind)


def _as(part: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_null(part.type) or (pa.types.is_large_string(kind) and pa.types.is_string(part.type)):
        return part.cast(kind)
    return pa.chunked_array([pa.array([shown(cell) for cell in part.to_pylist()], kind)])
