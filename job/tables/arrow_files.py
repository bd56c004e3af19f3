"""Parquet, arrow and feather files: mapped into memory instead of read into it, where their types allow that."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, config

from job.errors import DataError, first_line
from job.system.file_system import CANNOT_WRITE, error_number
from job.tables.cell_text import shown
from job.tables.file_rows import ambiguous, distinct

ARROW_FILE = b"ARROW1"
"""What an arrow file begins with that is no stream: feather, and what polars writes."""


def read_arrow(where: str, path: Path) -> tuple[Dataset, dict[str, str]]:
    """The rows, and the columns that cannot be used with what is wrong and what to do.

    Every value is looked at once: damage would else show in the middle of the work. Raises DataError.
    """
    try:
        rows, unusable = ARROW_FORMATS[path.suffix.lower()](path)
        rows.data.table.validate(full=True)
        for name in rows.column_names:
            if _is_nested_time(rows.data.column(name).type):
                rows.data.column(name).to_pylist()
    except Exception as error:  # damaged files raise nearly anything: Arrow's, thrift's, JSON's and Unicode's errors
        if number := error_number(error):  # of the file, or of the place where `datasets` converts it
            place = str(config.HF_DATASETS_CACHE) if number in CANNOT_WRITE else None
            raise OSError(number, os.strerror(number), place) from error
        raise DataError(
            f"{where}: {path.name} is damaged or not a {path.suffix} file: {first_line(error)}. Save it once more."
        ) from None
    return rows, unusable


def is_arrow_file(path: Path) -> bool:
    """Whether an arrow file is no stream."""
    with path.open("rb") as file:
        return file.read(len(ARROW_FILE)) == ARROW_FILE


def _open_parquet(path: Path) -> tuple[Dataset, dict[str, str]]:
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows and _is_known_to_datasets(file.schema_arrow):
            return Dataset.from_parquet(str(path)), {}
        return _in_memory(file.read())


def _open_arrow(path: Path) -> tuple[Dataset, dict[str, str]]:
    if not is_arrow_file(path):
        return Dataset.from_file(str(path)), {}
    with pa.memory_map(str(path)) as memory, pa.ipc.open_file(memory) as file:
        return _in_memory(file.read_all())


def _is_known_to_datasets(schema: pa.Schema) -> bool:
    """Whether `datasets` has such types, and each column has a name of its own."""
    try:
        Features.from_arrow_schema(schema)
    except (ValueError, TypeError, NotImplementedError):
        return False
    return len(set(schema.names)) == len(schema.names)


def _in_memory(table: pa.Table) -> tuple[Dataset, dict[str, str]]:
    """The rows of `table`, with what `datasets` does not know as text: maps as JSON."""
    columns = [column if _is_known_to_datasets(pa.schema([("", column.type)])) else _plain(column) for column in table.columns]
    return Dataset(pa.table(columns, distinct(table.column_names))), ambiguous(table.column_names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([shown(cell) for cell in column.to_pylist(maps_as_pydicts="lossy")], pa.string())])


def _is_nested_time(kind: pa.DataType) -> bool:
    """Whether a moment may stand in it that Python has no form for."""
    return pa.types.is_nested(kind) and any(word in str(kind) for word in ("timestamp", "date", "duration", "time"))


ARROW_FORMATS: dict[str, Callable[[Path], tuple[Dataset, dict[str, str]]]] = {
    ".parquet": _open_parquet,
    ".arrow": _open_arrow,
    ".feather": _open_arrow,
}
