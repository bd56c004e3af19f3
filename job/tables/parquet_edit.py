"""Parquet and arrow files with further columns: schema, types, row groups and compression as they are."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from job.tables.added_columns import AddedColumns, Notes
from job.tables.arrow_files import is_arrow_file

HUGGINGFACE = b"huggingface"
"""Where `datasets` keeps the types of the columns, which must name the new ones too."""


def edit_parquet(source: Path, target: Path, added: AddedColumns) -> Notes:
    """Writes the parquet file `source` with `added` to `target`."""
    with pq.ParquetFile(source) as file:
        schema = _extended(file.schema_arrow, added)
        codec = file.metadata.row_group(0).column(0).compression.lower()
        groups = (file.read_row_group(group) for group in range(file.num_row_groups))
        with pq.ParquetWriter(target, schema, compression="none" if codec == "uncompressed" else codec) as writer:
            for table in _with_columns(groups, schema, added):
                writer.write_table(table, row_group_size=max(1, table.num_rows))
    return ()


def edit_arrow(source: Path, target: Path, added: AddedColumns) -> Notes:
    """The same with an arrow file: a stream, as `datasets` writes them, or one that can be read from any place."""
    is_file = is_arrow_file(source)
    opened, made = (pa.ipc.open_file, pa.ipc.new_file) if is_file else (pa.ipc.open_stream, pa.ipc.new_stream)
    with pa.memory_map(str(source)) as memory, opened(memory) as file:
        schema = _extended(file.schema, added)
        batches = (file.get_batch(index) for index in range(file.num_record_batches)) if is_file else file
        with made(str(target), schema) as writer:
            for table in _with_columns((pa.Table.from_batches([batch]) for batch in batches), schema, added):
                writer.write_table(table)
    return ()


def _extended(schema: pa.Schema, added: AddedColumns) -> pa.Schema:
    """`schema` with the new columns, in what `datasets` keeps beside it as well."""
    for place, name in enumerate(added.names):
        schema = schema.append(pa.field(name, _type(added, place)))
    return schema.with_metadata(_metadata(schema.metadata or {}, schema, added))


def _type(added: AddedColumns, place: int) -> pa.DataType:
    return pa.float64() if any(isinstance(cells[place], float) for cells in added.rows.values()) else pa.string()


def _metadata(metadata: Mapping[bytes, bytes], schema: pa.Schema, added: AddedColumns) -> dict[bytes, bytes]:
    kept = dict(metadata)
    if HUGGINGFACE in kept:
        content = json.loads(kept[HUGGINGFACE])
        if features := (content.get("info") or {}).get("features"):
            for name in added.names:
                dtype = "float64" if pa.types.is_floating(schema.field(name).type) else "string"
                features[name] = {"dtype": dtype, "_type": "Value"}
            kept[HUGGINGFACE] = json.dumps(content).encode()
    return kept


def _with_columns(tables: Iterator[pa.Table], schema: pa.Schema, added: AddedColumns) -> Iterator[pa.Table]:
    """Each part of the rows, which are numbered from 1, with its new cells."""
    number, empty = 1, (None,) * len(added.names)
    for table in tables:
        rows = [added.rows.get(row, empty) for row in range(number, number + table.num_rows)]
        cells = [pa.array([row[place] for row in rows], schema.field(name).type) for place, name in enumerate(added.names)]
        yield pa.Table.from_arrays([*table.columns, *cells], schema=schema)
        number += table.num_rows
