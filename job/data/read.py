"""One table from any format: spreadsheets, text tables, JSON, parquet, arrow, saved datasets, the hub."""

import csv
import glob
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk
from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from job.errors import DataError, InputMissing
from job.hub import hub_errors

SUFFIXES = (".xlsx", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".txt")
CSV_DELIMITERS = ",;\t|"

Columns = dict[str, list]
"""Cells as Python values, by the name of their column."""


@dataclass(frozen=True)
class Source:
    """Where a table comes from."""

    variable: str
    """Name of the variable that names it, for messages."""
    location: str
    """File, folder, glob or hub dataset id."""
    sheet: str | None = None
    split: str = "train"
    token: str | None = None

    def __str__(self) -> str:
        return f"{self.variable}={self.location}"


@dataclass(frozen=True)
class Table:
    """Rows as they were found, with the number that a person sees beside the first one."""

    source: Source
    rows: Dataset
    first_row: int = 1
    odd_cells: dict[str, int] = field(default_factory=dict)
    """Index of the first cell that is no text, in columns whose cells are of several types."""

    def row_name(self, index: int) -> str:
        """What a person calls the row at `index`: in a spreadsheet the header is row 1."""
        return f"row {index + self.first_row}"


def read_table(source: Source) -> Table:
    """The rows of `source`, every text cell as it stands (no "NA" turned into null, no "007" into 7).

    Raises InputMissing if it is not there, DataError if it cannot be read or has no rows, Transient or AccessDenied
    for the hub.
    """
    path = Path(source.location)
    if path.is_dir() and ((path / "state.json").exists() or (path / "dataset_dict.json").exists()):
        table = Table(source, _read_saved(source))
    elif path.exists() or glob.has_magic(source.location) or path.suffix in SUFFIXES or source.location.startswith((".", "/", "~")):
        table = _read_files(source)
    elif source.location.count("/") <= 1:
        table = Table(source, _read_hub(source))
    else:
        raise InputMissing(f"{source}: no such file. Check the path; in a container it begins with /data/.")
    if len(table.rows) == 0:
        raise DataError(f"{source}: no rows. Put at least a header and some rows into it.")
    return table


def _read_files(source: Source) -> Table:
    tables = [_read_file(source, path) for path in _find_files(source)]
    if len(tables) == 1:
        return tables[0]
    columns = {path: tuple(sorted(table.rows.column_names)) for path, table in zip(_find_files(source), tables, strict=True)}
    first, *others = columns
    if odd := next((path for path in others if columns[path] != columns[first]), None):
        raise DataError(
            f"{source}: {first.name} has the columns {_quoted(columns[first])}, {odd.name} has {_quoted(columns[odd])}. "
            "Give all files the same columns."
        )
    return Table(source, concatenate_datasets([table.rows for table in tables]))


def _find_files(source: Source) -> list[Path]:
    path = Path(source.location).expanduser()
    if path.is_file():
        return [path]
    pattern = str(path / "*") if path.is_dir() else str(path)
    files = sorted(Path(name) for name in glob.glob(pattern) if Path(name).suffix.lower() in SUFFIXES)
    if files:
        return files
    if path.is_dir() or glob.has_magic(source.location):
        raise InputMissing(f"{source}: no file there that ends in {', '.join(SUFFIXES)}.")
    raise InputMissing(f"{source}: no such file. Check the path; in a container it begins with /data/.")


def _read_file(source: Source, path: Path) -> Table:
    readers = {
        ".xlsx": _read_xlsx, ".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json,
        ".parquet": _read_parquet, ".arrow": _read_arrow, ".txt": _read_lines,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{source}: cannot read {path.suffix or 'a file without an ending'}. Save it as one of {', '.join(SUFFIXES)}."
        )
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{source}: {path.name} is empty. Put at least a header and some rows into it.")
        content = reader(source, path)
    except OSError as error:
        raise InputMissing(f"{source}: {path.name} cannot be opened: {error.strerror or error}.") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{source}: {path.name} is damaged or no {path.suffix} file: {_first_line(error)}") from None
    if isinstance(content, Dataset):
        return Table(source, content)
    rows, odd_cells = _in_memory(content)
    return Table(source, rows, first_row=2 if reader in (_read_xlsx, _read_csv) else 1, odd_cells=odd_cells)


def _read_xlsx(source: Source, path: Path) -> Columns:
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError) as error:
        raise DataError(f"{source}: {path.name} is no xlsx workbook ({_first_line(error)}). Save it as xlsx once more.") from None
    if source.sheet is not None and source.sheet not in book.sheetnames:
        raise DataError(f'{source}: no sheet "{source.sheet}"; found {_quoted(book.sheetnames)}. Set SHEET to one of them.')
    cells = list((book[source.sheet] if source.sheet else book.worksheets[0]).iter_rows(values_only=True))
    book.close()
    while cells and all(cell is None for cell in cells[-1]):
        cells.pop()
    if not cells:
        raise DataError(f"{source}: the sheet is empty. Put a header and rows into it, or set SHEET to another.")
    places = [place for place, name in enumerate(cells[0]) if name is not None]
    header = [str(cells[0][place]) for place in places]
    _check_header(source, header)
    return _columns(header, ([row[place] for place in places] for row in cells[1:]))


def _read_csv(source: Source, path: Path) -> Columns:
    """Every cell as text. The delimiter is a tab in a tsv, else the one of `CSV_DELIMITERS` that the header has most of."""
    csv.field_size_limit(2**31 - 1)
    with _open_text(source, path) as file:
        header_line = file.readline()
        file.seek(0)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(CSV_DELIMITERS, key=header_line.count)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(rows, [])
            _check_header(source, header)
            return _columns(header, (_check_width(source, number, row, header) for number, row in enumerate(rows, 2) if row))
        except csv.Error as error:
            raise DataError(f"{source}: line {rows.line_num}: {error}. Check the double quotes there.") from None


def _check_width(source: Source, number: int, row: list[str], header: list[str]) -> list[str]:
    if len(row) == len(header):
        return row
    raise DataError(
        f"{source}: row {number} has {len(row)} cells, the header has {len(header)}. "
        "Put text that contains the delimiter or a line break in double quotes."
    )


def _read_jsonl(source: Source, path: Path) -> Columns:
    with _open_text(source, path) as file:
        records = [_parse_json(source, line.rstrip(), number) for number, line in enumerate(file, 1) if line.strip()]
    return _columns_of_records(source, records)


def _read_lines(source: Source, path: Path) -> Columns:
    with _open_text(source, path) as file:
        return {"input": [line.rstrip("\r\n") for line in file if line.strip()]}


def _read_json(source: Source, path: Path) -> Columns:
    with _open_text(source, path) as file:
        content = _parse_json(source, file.read(), 1)
    if isinstance(content, dict):
        content = next((value for value in content.values() if isinstance(value, list)), content)
    if not isinstance(content, list):
        raise DataError(f'{source}: a list of objects was expected: [{{"input": "...", "output_ground_truth": "..."}}, ...].')
    return _columns_of_records(source, content)


def _parse_json(source: Source, text: str, first_line: int) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{source}: line {line}, character {error.colno}: broken JSON ({error.msg}). Mend that line.") from None
    except RecursionError:
        raise DataError(f"{source}: line {first_line}: JSON nested too deeply. Flatten it.") from None


def _columns_of_records(source: Source, records: list) -> Columns:
    odd = next((index for index, record in enumerate(records) if not isinstance(record, dict)), None)
    if odd is not None:
        raise DataError(
            f'{source}: row {odd + 1} is no object. Write each row as {{"input": "...", "output_ground_truth": "..."}}.'
        )
    names = list(dict.fromkeys(name for record in records for name in record))
    return _columns(names, ([record.get(name) for name in names] for record in records))


def _columns(names: list[str], rows: Iterable[Sequence]) -> Columns:
    columns = {name: [] for name in names}
    appenders = [columns[name].append for name in names]
    for row in rows:
        for append, cell in zip(appenders, row, strict=True):
            append(cell)
    return columns


def _check_header(source: Source, names: list[str]) -> None:
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f'{source}: two columns are named "{twice}". Rename one of them.')
    if not any(name.strip() for name in names):
        raise DataError(f"{source}: no header. Put the names of the columns into the first row.")


def _open_text(source: Source, path: Path) -> io.StringIO:
    """The text of a file, which must be UTF-8, with or without a byte order mark."""
    content = path.read_bytes()
    try:
        return io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). "
            'Save the file as UTF-8; Excel calls it "CSV UTF-8".'
        ) from None


def _read_parquet(_: Source, path: Path) -> Dataset:
    return Dataset.from_parquet(str(path))


def _read_arrow(_: Source, path: Path) -> Dataset:
    return Dataset.from_file(str(path))


def _read_saved(source: Source) -> Dataset:
    try:
        saved = load_from_disk(source.location)
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"{source}: no whole dataset is saved there ({_first_line(error)}). Save it once more.") from None
    if not isinstance(saved, DatasetDict):
        return saved
    if source.split not in saved:
        raise DataError(
            f'{source}: no split "{source.split}"; found {_quoted(saved)}. Set {_split_variable(source)} to one of them.'
        )
    return saved[source.split]


def _read_hub(source: Source) -> Dataset:
    with hub_errors(f"{source}: no such file here and the hub"):
        try:
            return load_dataset(source.location, split=source.split, token=source.token)
        except ValueError as error:
            raise DataError(f"{source}: {_first_line(error)} Check {_split_variable(source)}={source.split}.") from None


def _split_variable(source: Source) -> str:
    return source.variable.replace("_DATA", "_SPLIT")


def _in_memory(columns: Columns) -> tuple[Dataset, dict[str, int]]:
    """The dataset of `columns`, and the index of the first odd cell in each column whose cells are not all of one type."""
    arrays, odd_cells = {}, {}
    for name, cells in columns.items():
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            arrays[name] = pa.array([cell if cell is None else str(cell) for cell in cells])
            odd_cells[name] = next((index for index, cell in enumerate(cells) if not isinstance(cell, str | None)), 0)
    return Dataset(pa.table(arrays)), odd_cells


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
