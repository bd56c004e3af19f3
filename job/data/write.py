"""A table, written in the format that the path's ending names."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from openpyxl import Workbook

from job.errors import OutputError

SUFFIXES = (".xlsx", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")


def write_table(columns: dict[str, list], path: Path) -> None:
    """Writes `columns` (name -> cells) to `path`; a text file gets the last column alone, a line a row.

    Raises OutputError for an ending that cannot be written or a folder that is not writable.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: cannot write {path.suffix or 'a file without an ending'}. Use one of {', '.join(SUFFIXES)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(columns, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}. Choose another place.") from None


def _write(columns: dict[str, list], path: Path) -> None:
    suffix, rows = path.suffix.lower(), list(zip(*columns.values(), strict=True))
    if suffix == ".parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif suffix == ".xlsx":
        book = Workbook(write_only=True)
        sheet = book.create_sheet("predictions")
        for row in [tuple(columns), *rows]:
            sheet.append([cell if isinstance(cell, str | int | float | None) else str(cell) for cell in row])
        book.save(path)
    elif suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([tuple(columns), *rows])
    else:
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        text = {
            ".jsonl": lambda: "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records),
            ".json": lambda: json.dumps(records, ensure_ascii=False, indent=2) + "\n",
            ".txt": lambda: "".join(" ".join(str(row[-1]).split()) + "\n" for row in rows),
        }[suffix]()
        path.write_text(text, encoding="utf-8")
