"""Fields inside cells, by dotted names such as `translation.de` or `answers.text`, as columns of their own."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from datasets import Dataset

from job.tables.cell_text import as_text
from job.tables.table import Table


def with_fields(table: Table, names: Iterable[str]) -> Table:
    """`table` with a column for each dotted name that it can follow into a column's cells."""
    found = table.rows.column_names
    added = {name: _cells(table, name) for name in names if name not in found and name.partition(".")[0] in found}
    added = {name: cells for name, cells in added.items() if any(cell is not None for cell in cells)}
    if not added:
        return table
    columns = {name: table.rows.data.column(name) for name in found}
    return replace(table, rows=Dataset(pa.table(columns | {name: _array(cells) for name, cells in added.items()})))


def first_cells(table: Table, column: str, count: int) -> list:
    """The first cells of a column, parsed where they are JSON text."""
    return [parsed(cell) for cell in table.rows.select_columns([column])[:count][column]]


def parsed(cell: Any) -> Any:
    """What the JSON text of a list or an object says; all else as it is."""
    return from_json(cell) if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{") else cell


def from_json(value: Any) -> Any:
    """What JSON text says; other text, and what is no text, as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def field(cell: Any, path: list[str]) -> Any:
    """What `cell` has at `path`: keys of objects, numbers of a list's items, or a key that all items of a list have."""
    for place, name in enumerate(path):
        cell = parsed(cell)
        if isinstance(cell, list) and not name.isdecimal():
            return [item for item in (field(item, path[place:]) for item in cell) if item is not None]
        if isinstance(cell, list):
            cell = cell[int(name)] if int(name) < len(cell) else None
        else:
            cell = cell.get(name) if isinstance(cell, dict) else None
    return as_text(cell)


def _cells(table: Table, name: str) -> list:
    column, *path = name.split(".")
    return [field(cell, path) for cell in table.cells(column)]


def _array(cells: list) -> pa.Array:
    """The cells; as JSON text where they are of different forms."""
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([cell if isinstance(cell, str | None) else json.dumps(cell, ensure_ascii=False) for cell in cells])
