"""A table, written in the format that the path's ending names."""

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from openpyxl import Workbook

from job.errors import OutputError

TEXT_COLUMN = "output"
SUFFIXES = (".xlsx", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")


def write_table(columns: dict[str, list], path: Path) -> None:
    """Writes `columns` (name -> cells) to `path`; a text file gets the column "output" alone, a line a row.

    Raises OutputError for an ending that cannot be written or a folder that is not writable.
    """
    check_place(path)
    with _told(path):
        _write(columns, path)


def check_place(path: Path) -> None:
    """Raises OutputError for an ending that cannot be written or a folder that is not, before there is anything to lose."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: cannot write {path.suffix or 'a file without an ending'}. Use one of {', '.join(SUFFIXES)}.")
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_there = path.exists()
        path.open("a").close()
        if not is_there:
            path.unlink()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}. Choose another place.") from None


def _write(columns: dict[str, list], path: Path) -> None:
    suffix, rows = path.suffix.lower(), list(zip(*columns.values(), strict=True))
    output = list(columns).index(TEXT_COLUMN) if TEXT_COLUMN in columns else -1
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
            ".txt": lambda: "".join(" ".join(str(row[output]).split()) + "\n" for row in rows),
        }[suffix]()
        path.write_text(text, encoding="utf-8")
