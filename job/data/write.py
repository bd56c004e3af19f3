"""A table, written in the format that the path's ending names."""

import contextlib
import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from job.errors import OutputError

log = logging.getLogger(__name__)

CELL_LETTERS = 32_767
"""What a cell of a workbook takes."""
SUFFIXES = (".xlsx", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")


def write_table(columns: dict[str, list], path: Path, text_column: str) -> None:
    """Writes `columns` (name -> cells) to `path`; a text file gets `text_column` alone, a line a row.

    Raises OutputError for an ending that cannot be written or a folder that is not writable.
    """
    check_place(path)
    with _told(path):
        _write(columns, path, text_column)


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


def _write(columns: dict[str, list], path: Path, text_column: str) -> None:
    suffix, rows = path.suffix.lower(), list(zip(*columns.values(), strict=True))
    if suffix == ".parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif suffix == ".xlsx":
        _write_workbook([tuple(columns), *rows], path)
    elif suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([tuple(columns), *rows])
    else:
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        text = {
            ".jsonl": lambda: "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records),
            ".json": lambda: json.dumps(records, ensure_ascii=False, indent=2) + "\n",
            ".txt": lambda: "".join(" ".join(str(row[list(columns).index(text_column)]).split()) + "\n" for row in rows),
        }[suffix]()
        path.write_text(text, encoding="utf-8")


def _write_workbook(rows: list[tuple], path: Path) -> None:
    """Texts stay texts: a formula in a cell would be computed by whoever opens it. A warning says what a cell cannot hold."""
    book = Workbook(write_only=True)
    sheet, changed = book.create_sheet("predictions"), 0
    for row in rows:
        cells: list[int | float | Cell | None] = []
        for value in row:
            if value is None or isinstance(value, int | float):
                cells.append(value)
                continue
            text = ILLEGAL_CHARACTERS_RE.sub("", str(value))[:CELL_LETTERS]
            changed += text != str(value)
            cell = WriteOnlyCell(sheet, value=text)
            cell.data_type = "s"
            cells.append(cell)
        sheet.append(cells)
    book.save(path)
    if changed:
        log.warning("%s: %d cells lost control characters or what is beyond %d letters; csv keeps all", path, changed, CELL_LETTERS)
