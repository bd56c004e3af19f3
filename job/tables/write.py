"""A new table, in the format that a path's ending names."""

import csv
import json
import math
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.styles.numbers import FORMAT_TEXT

from job.errors import OutputError
from job.tables.added_columns import Notes
from job.tables.formulas import mark
from job.tables.sheet import LAST_COLUMN, LAST_ROW
from job.tables.sheet_edit import cell_text, cut_notes

Rows = Iterable[dict[str, Any]]


def write_table(rows: pa.Table, path: Path, suffix: str, text_column: str) -> Notes:
    """Writes `rows` to `path` in the format of `suffix`; a text file gets `text_column` alone, a line a row.

    Raises OutputError for what a format cannot hold.
    """
    return WRITERS[suffix](rows, path, text_column)


def plain(cell: Any) -> Any:
    """`cell` as JSON can hold it: dates as ISO 8601, bytes as text, NaN as None."""
    if isinstance(cell, dict):
        return {str(key): plain(value) for key, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [plain(item) for item in cell]
    if isinstance(cell, bytes):
        return cell.decode(errors="backslashreplace")
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    return cell if isinstance(cell, str | int | None) else str(cell)


def flat(cell: Any) -> Any:
    """`cell` as one that does not nest: lists and dicts as JSON."""
    cell = plain(cell)
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else cell


def _records(table: pa.Table) -> Rows:
    """The rows, few of them in memory at once."""
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def _write_parquet(table: pa.Table, path: Path, _text_column: str) -> Notes:
    pa.parquet.write_table(table, path)
    return ()


def _write_arrow(table: pa.Table, path: Path, _text_column: str) -> Notes:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    return ()


def _write_feather(table: pa.Table, path: Path, _text_column: str) -> Notes:
    pyarrow.feather.write_feather(table, str(path))
    return ()


def _write_workbook(table: pa.Table, path: Path, _text_column: str) -> Notes:
    """Texts stay texts: a formula in a cell would be computed by whoever opens it. A note says what a cell cannot hold."""
    if table.num_rows >= LAST_ROW or table.num_columns > LAST_COLUMN:
        raise OutputError(
            f"{table.num_rows:,} rows of {table.num_columns:,} columns are more than a workbook holds. Name a file .csv."
        )
    book = Workbook(write_only=True)
    sheet, changed = book.create_sheet("predictions"), 0
    for row in ([*table.column_names], *(record.values() for record in _records(table))):
        cells: list[int | float | bool | datetime | Cell | None] = []
        for value in map(_workbook_value, row):
            if not isinstance(value, str):
                cells.append(value)
                continue
            text = cell_text(value)
            changed += text != value
            cell = WriteOnlyCell(sheet, value=text)
            cell.data_type = "s"
            if text.startswith(("=", "+", "-", "@")):
                cell.number_format = FORMAT_TEXT  # so that it stays text when a person edits it
            cells.append(cell)
        sheet.append(cells)
    book.save(path)
    return cut_notes(changed)


def _workbook_value(cell: Any) -> Any:
    """`cell` as a workbook can hold it: dates and numbers as they are, unless they are out of its range."""
    if isinstance(cell, datetime) and cell.tzinfo is None and cell.year >= 1900:
        return cell
    if isinstance(cell, date) and not isinstance(cell, datetime) and cell.year >= 1900:
        return cell
    if isinstance(cell, int) and abs(cell) >= 10**15:
        return str(cell)
    if isinstance(cell, Decimal):
        return str(cell)
    return flat(cell)


def _write_csv(delimiter: str) -> Callable[[pa.Table, Path, str], Notes]:
    def write(table: pa.Table, path: Path, _text_column: str) -> Notes:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file, delimiter=delimiter)
            for row in (table.column_names, *(map(flat, record.values()) for record in _records(table))):
                writer.writerow([mark(cell) if isinstance(cell, str) else cell for cell in row])
        return ()

    return write


def _write_json(table: pa.Table, path: Path, _text_column: str) -> Notes:
    with path.open("w", encoding="utf-8") as file:
        json.dump([plain(record) for record in _records(table)], file, ensure_ascii=False, indent=2)
        file.write("\n")
    return ()


def _write_json_lines(table: pa.Table, path: Path, _text_column: str) -> Notes:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(plain(record), ensure_ascii=False) + "\n" for record in _records(table))
    return ()


def _write_lines(table: pa.Table, path: Path, text_column: str) -> Notes:
    with path.open("w", encoding="utf-8") as file:
        cells = table.column(text_column).to_pylist()
        file.writelines(" ".join(str("" if cell is None else cell).split()) + "\n" for cell in cells)
    return ()


WRITERS = {
    ".xlsx": _write_workbook,
    ".csv": _write_csv(","),
    ".tsv": _write_csv("\t"),
    ".tab": _write_csv("\t"),
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".json": _write_json,
    ".parquet": _write_parquet,
    ".arrow": _write_arrow,
    ".feather": _write_feather,
    ".txt": _write_lines,
}
SUFFIXES = tuple(WRITERS)
