"""Text tables: csv and tsv, and text files of a line a row."""

import csv
import io
from pathlib import Path

from job.data.file_rows import FileRows, check_header, of_rows
from job.errors import DataError

CSV_DELIMITERS = ",;\t|"


def read_delimited(where: str, path: Path) -> FileRows:
    """Every cell as text. The delimiter is a tab in a tsv, else the one of `CSV_DELIMITERS` that the header has most of."""
    csv.field_size_limit(2**31 - 1)
    with open_text(where, path) as file:
        header_line = file.readline()
        file.seek(0)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(CSV_DELIMITERS, key=header_line.count)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(rows, [])
            check_header(where, header)
            return of_rows(
                header, ((number, _check_width(where, number, row, header)) for number, row in enumerate(rows, 2) if row)
            )
        except csv.Error as error:
            raise DataError(f"{where}: line {rows.line_num}: {error}. Check the double quotes there.") from None


def _check_width(where: str, number: int, row: list[str], header: list[str]) -> list[str]:
    if len(row) == len(header):
        return row
    raise DataError(
        f"{where}: row {number} has {len(row)} cells, the header has {len(header)}. "
        "Put text that contains the delimiter or a line break in double quotes."
    )


def read_lines(where: str, path: Path) -> FileRows:
    """Each line that is not blank as a row of the column "input"."""
    with open_text(where, path) as file:
        return of_rows(["input"], ((number, [line.rstrip("\r\n")]) for number, line in enumerate(file, 1) if line.strip()))


def open_text(where: str, path: Path) -> io.StringIO:
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
