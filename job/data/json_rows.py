"""JSON: lists of objects, and a line an object."""

import json
from pathlib import Path

from job.data.delimited import open_text
from job.data.file_rows import FileRows, of_rows
from job.errors import DataError


def read_json_lines(where: str, path: Path) -> FileRows:
    """A line an object. Raises DataError."""
    with open_text(where, path) as file:
        lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    records = [(number, _parse_json(where, line.rstrip(), number)) for number, line in lines]
    return _of_records(where, records)


def read_json(where: str, path: Path) -> FileRows:
    """A list of objects, or an object that holds one. Raises DataError."""
    with open_text(where, path) as file:
        content = _parse_json(where, file.read(), 1)
    if isinstance(content, dict):
        content = next((value for value in content.values() if isinstance(value, list)), content)
    if not isinstance(content, list):
        raise DataError(f'{where}: a list of objects was expected: [{{"input": "...", "output_ground_truth": "..."}}, ...].')
    return _of_records(where, list(enumerate(content, 1)))


def _parse_json(where: str, text: str, start_line: int) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = start_line + error.lineno - 1
        raise DataError(f"{where}: line {line}, character {error.colno}: invalid JSON ({error.msg}). Fix that line.") from None
    except RecursionError:
        raise DataError(f"{where}: line {start_line}: JSON nested too deeply. Flatten it.") from None


def _of_records(where: str, records: list[tuple[int, object]]) -> FileRows:
    odd = next((number for number, record in records if not isinstance(record, dict)), None)
    if odd is not None:
        raise DataError(f'{where}: row {odd} is not an object. Write each row as {{"input": "...", "output_ground_truth": "..."}}.')
    names = list(dict.fromkeys(name for _, record in records for name in record))  # type: ignore[attr-defined]
    return of_rows(names, ((number, [record.get(name) for name in names]) for number, record in records))  # type: ignore[attr-defined]
