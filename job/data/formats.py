"""The file formats that hold rows: each read into columns of Python values, cells as they stand."""

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from openpyxl import load_workbook

from job.errors import DataError, first_line

CSV_DELIMITERS = ",;\t|"

Cells = dict[str, list]
"""Cells by the name of their column."""


def read_columns(where: str, path: Path, sheet: str | None) -> tuple[Cells, int]:
    """The cells of the file at `path`, and the number that a person sees beside its first row.

    where: the variable and its value, for messages. Raises DataError.
    """
    suffix = path.suffix.lower()
    if suffix == ".xlsx":
        return _read_xlsx(where, path, sheet), 2
    if suffix in (".csv", ".tsv"):
        return _read_csv(where, path), 2
    return {".jsonl": _read_jsonl, ".json": _read_json, ".txt": _read_lines}[suffix](where, path), 1


def _read_xlsx(where: str, path: Path, sheet: str | None) -> Cells:
    try:
        with contextlib.closing(load_workbook(path, read_only=True, data_only=True)) as book:
            if sheet is not None and sheet not in book.sheetnames:
                raise DataError(f'{where}: no sheet "{sheet}"; found {quoted(book.sheetnames)}. Set SHEET to one of them.')
            found = book[sheet] if sheet else book.worksheets[0]
            found.reset_dimensions()  # some programs write too small a range there, and what lies outside would be lost
            cells = list(found.iter_rows(values_only=True))
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, the XML parser and openpyxl raise nearly anything for a damaged file
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(f"{where}: {path.name} is not an .xlsx file ({first_line(error)}). Save it as xlsx once more.") from None
    while cells and all(cell is None for cell in cells[-1]):
        cells.pop()
    if not cells:
        raise DataError(f"{where}: the sheet is empty. Put a header and rows into it, or set SHEET to another.")
    places = [place for place, name in enumerate(cells[0]) if name is not None]
    header = [str(cells[0][place]) for place in places]
    _check_header(where, header)
    return _columns(header, ([row[place] if place < len(row) else None for place in places] for row in cells[1:]))


def _read_csv(where: str, path: Path) -> Cells:
    """Every cell as text. The delimiter is a tab in a tsv, else the one of `CSV_DELIMITERS` that the header has most of."""
    csv.field_size_limit(2**31 - 1)
    with _open_text(where, path) as file:
        header_line = file.readline()
        file.seek(0)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(CSV_DELIMITERS, key=header_line.count)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(rows, [])
            _check_header(where, header)
            return _columns(header, (_check_width(where, number, row, header) for number, row in enumerate(rows, 2) if row))
        except csv.Error as error:
            raise DataError(f"{where}: line {rows.line_num}: {error}. Check the double quotes there.") from None


def _check_width(where: str, number: int, row: list[str], header: list[str]) -> list[str]:
    if len(row) == len(header):
        return row
    raise DataError(
        f"{where}: row {number} has {len(row)} cells, the header has {len(header)}. "
        "Put text that contains the delimiter or a line break in double quotes."
    )


def _read_jsonl(where: str, path: Path) -> Cells:
    with _open_text(where, path) as file:
        records = [_parse_json(where, line.rstrip(), number) for number, line in enumerate(file, 1) if line.strip()]
    return _columns_of_records(where, records)


def _read_lines(where: str, path: Path) -> Cells:
    with _open_text(where, path) as file:
        return {"input": [line.rstrip("\r\n") for line in file if line.strip()]}


def _read_json(where: str, path: Path) -> Cells:
    with _open_text(where, path) as file:
        content = _parse_json(where, file.read(), 1)
    if isinstance(content, dict):
        content = next((value for value in content.values() if isinstance(value, list)), content)
    if not isinstance(content, list):
        raise DataError(f'{where}: a list of objects was expected: [{{"input": "...", "output_ground_truth": "..."}}, ...].')
    return _columns_of_records(where, content)


def _parse_json(where: str, text: str, start_line: int) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = start_line + error.lineno - 1
        raise DataError(f"{where}: line {line}, character {error.colno}: invalid JSON ({error.msg}). Fix that line.") from None
    except RecursionError:
        raise DataError(f"{where}: line {start_line}: JSON nested too deeply. Flatten it.") from None


def _columns_of_records(where: str, records: list) -> Cells:
    odd = next((index for index, record in enumerate(records) if not isinstance(record, dict)), None)
    if odd is not None:
        raise DataError(
            f'{where}: row {odd + 1} is not an object. Write each row as {{"input": "...", "output_ground_truth": "..."}}.'
        )
    names = list(dict.fromkeys(name for record in records for name in record))
    return _columns(names, ([record.get(name) for name in names] for record in records))


def _columns(names: list[str], rows: Iterable[Sequence]) -> Cells:
    columns: Cells = {name: [] for name in names}
    appenders = [columns[name].append for name in names]
    for row in rows:
        for append, cell in zip(appenders, row, strict=True):
            append(cell)
    return columns


def _check_header(where: str, names: list[str]) -> None:
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f'{where}: two columns are named "{twice}". Rename one of them.')
    if not any(name.strip() for name in names):
        raise DataError(f"{where}: no header. Put the names of the columns into the first row.")


def _open_text(where: str, path: Path) -> io.StringIO:
    """The text of a file, which must be UTF-8, with or without a byte order mark."""
    content = path.read_bytes()
    try:
        return io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). "
            'Save the file as UTF-8; Excel calls it "CSV UTF-8".'
        ) from None


def quoted(names: Iterable[str]) -> str:
    """`"a", "b"`."""
    return ", ".join(f'"{name}"' for name in names)
