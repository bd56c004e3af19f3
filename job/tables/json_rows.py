"""JSON: a list of objects, an object a line, and the other ways to lay out rows; each cell as it is written."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from job.errors import DataError
from job.tables.delimited import open_text
from job.tables.file_rows import FileRows, of_rows
from job.tables.json_layouts import Record, Records, find_records

DEEPEST = 50
"""Lists and objects inside one another that a cell may hold."""
ROW = '{"input": "...", "output_ground_truth": "..."}'
KINDS = {list: "a list", bool: "true or false", type(None): "null", str: "a text or a number"}
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Literal(str):
    """A number as it is written: 1.0 stays 1.0, however many digits it has."""

    __slots__ = ()


class _RepeatedKeyError(ValueError):
    """An object has a key twice."""


def read_json(where: str, path: Path, every_part: bool = False) -> FileRows:
    """The rows of a file, whichever way they are laid out in it. Raises DataError.

    every_part: whether rows for the evaluation are among them, instead of kept apart.
    """
    with open_text(where, path) as file:
        text = file.read()
    by_line = path.suffix.lower() != ".json"
    values = _parse_lines(where, text) if by_line else list(_parse_all(where, text))
    found = records_of(where, values, is_document(text, values, by_line), every_part)
    held_out = _of_records(where, found.held_out, text) if found.held_out is not None else None
    rows = _of_records(where, found.rows, text)
    return FileRows(rows.columns, rows.numbers, found.notes, held_out)


def is_document(text: str, values: Sequence[Record], by_line: bool) -> bool:
    """Whether the rows are inside the one value of `text`, instead of a value each."""
    return len(values) == 1 and (isinstance(values[0][1], list) or not by_line or "\n" in text.strip())


def records_of(where: str, values: Sequence[Record], is_document: bool, every_part: bool = False) -> Records:
    """The rows in `values`, each with the number that a person sees: the line of a value of its own, else counted."""
    if is_document:
        return find_records(where, values[0][1], every_part)
    found = find_records(where, [value for _, value in values])
    if not found.derived:
        found.rows[:] = [(values[number - 1][0], record) for number, record in found.rows]
    return found


def _parse_lines(where: str, text: str) -> list[tuple[int, Any]]:
    """(line, value) of each line; of the whole text if its first line is no value."""
    lines = [(number, line) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()]
    try:
        _DECODER.decode(lines[0][1] if lines else "0")
    except (ValueError, RecursionError):
        return list(_parse_all(where, text))
    return [(number, value) for number, line in lines for _, value in _parse_all(where, line, number)]


def _parse_all(where: str, text: str, first_line: int = 1) -> Iterator[tuple[int, Any]]:
    """(line, value) of each value of `text`: usually one, several where they stand one after another."""
    position, line = 0, first_line
    while (start := _skip_space(text, position)) < len(text):
        line += text.count("\n", position, start)
        try:
            value, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            place = f"line {first_line + error.lineno - 1}, character {error.colno}"
            raise DataError(f"{where}: {place}: invalid JSON ({_explain(error)}). Fix that line.") from None
        except _RepeatedKeyError as error:
            raise DataError(f"{where}: line {line}: an object has the key {error} twice. Rename one of them.") from None
        except RecursionError:
            raise DataError(f"{where}: line {line}: JSON nested too deeply. Flatten it.") from None
        yield line, value
        line += text.count("\n", start, end)
        position = end


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _explain(error: json.JSONDecodeError) -> str:
    """What is wrong at the place of `error`, in words where it is a usual thing."""
    here, before = error.doc[error.pos :].lstrip(), error.doc[: error.pos].rstrip()
    if here.startswith(("//", "/*", "#")):
        return "a comment; JSON has none"
    if here.startswith(("]", "}")) and before.endswith(","):
        return f"a comma before {here[0]}"
    if here.startswith(",") and before.endswith("}"):
        return "a comma behind the object: JSON lines have none, and a list stands in [ and ]"
    if here.startswith("'"):
        return "single quotes; JSON wants double ones"
    if here.startswith(("None", "True", "False")):
        return f"{here.split(',')[0].split('}')[0].strip()[:5]} is Python's; JSON writes null, true and false"
    if error.msg.startswith("Invalid control character"):
        return "a tab or a line break in a text; JSON writes \\t and \\n"
    return error.msg


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(json.dumps(next(key for key in keys if keys.count(key) > 1)[:40]))
    return made


_DECODER = json.JSONDecoder(parse_float=Literal, parse_int=Literal, parse_constant=Literal, object_pairs_hook=_object)


def _of_records(where: str, records: list[Record], text: str) -> FileRows:
    odd = next(((number, record) for number, record in records if not isinstance(record, dict)), None)
    if odd is not None:
        found = next(said for kind, said in KINDS.items() if isinstance(odd[1], kind))
        raise DataError(f"{where}: row {odd[0]} is {found}, and no object. Write each row as {ROW}.")
    if SURROGATE.search(text):
        _check_surrogates(where, records)
    names = list(dict.fromkeys(name for _, record in records for name in record))
    return of_rows(names, ((number, [_cell(where, number, record.get(name)) for name in names]) for number, record in records))


def _check_surrogates(where: str, records: list[Record]) -> None:
    for number, record in records:
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            code = f"\\u{ord(error.object[error.start]):04x}"
            raise DataError(f"{where}: row {number}: {code} is one half of a character. Write the whole of it.") from None


def _cell(where: str, number: int, value: Any) -> Any:
    """`value` as the text that stands there; None for null and NaN; lists and objects with values of their own types."""
    if isinstance(value, Literal):
        return None if value == "NaN" else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return _typed(value)
    except RecursionError:
        raise DataError(f"{where}: row {number}: JSON nested more than {DEEPEST} deep. Flatten it.") from None


def _typed(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        return {key: _typed(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item, depth + 1) for item in value]
    return _number(value) if isinstance(value, Literal) else value


def _number(literal: Literal) -> int | float | str | None:
    """The number that is written; what Python cannot read as one stays as it is."""
    try:
        return int(literal)
    except ValueError:
        number = float(literal)
    return number if math.isfinite(number) else None if literal == "NaN" else str(literal)
