"""JSON with a further key in each row: it is put into the text, and all else stays as it is written, numbers and spaces too."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from json.decoder import JSONArray, JSONObject, scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from job.tables.added_columns import AddedColumns, Cell, NoPlaceError, Notes
from job.tables.encodings import decode, encode
from job.tables.json_rows import is_document, records_of

Insertion = tuple[int, str]
"""Where a text is put in, and the text."""


class _Object(dict):
    """An object, with the places of its braces."""

    start = end = 0


class _List(list):
    """A list, with the places of its brackets."""

    start = end = 0


def edit_json(source: Path, target: Path, added: AddedColumns) -> Notes:
    """Writes the JSON file `source` with `added` to `target`, at the end of each row's object or list.

    Raises NoPlaceError for a layout in which rows have no place of their own.
    """
    decoded = decode(str(source), source.name, source.read_bytes())
    writer = _Writer(decoded.text, decoded.encoding)
    pieces, position = [], 0
    for place, text in sorted(_insertions(writer, source.suffix.lower() != ".json", added), key=lambda insertion: insertion[0]):
        pieces += [decoded.text[position:place], text]
        position = place
    target.write_bytes(encode("".join([*pieces, decoded.text[position:]]), decoded)[0])
    return ()


class _Writer:
    """Makes texts that look like those around them."""

    def __init__(self, text: str, encoding: str) -> None:
        self.text = text
        self._ascii = not encoding.startswith("utf") or (text.isascii() and "\\u" in text)

    def keys(self, owner: _Object, values: dict[str, Any]) -> Insertion:
        """Further keys at the end of an object."""
        space, colon = self._space(owner), ": "
        if owner and (key := re.compile(r"[{\s]*\"").match(self.text, owner.start)):
            _, end = scanstring(self.text, key.end())
            colon = re.compile(r"\s*:\s*").match(self.text, end).group()  # type: ignore[union-attr]
        between = space or (" " if colon.endswith(" ") else "")
        texts = [f"{between}{self._dump(name)}{colon}{self._dump(value)}" for name, value in values.items()]
        return self._behind(owner, texts, space)

    def items(self, owner: _List, values: list[Cell]) -> Insertion:
        """Further items at the end of a list."""
        space = self._space(owner)
        between = space or (" " if re.search(r", ", self.text[owner.start : owner.end]) or len(owner) < 2 else "")
        return self._behind(owner, [f"{between}{self._dump(value)}" for value in values], space)

    def _space(self, owner: _Object | _List) -> str:
        """What stands before each item of a list or an object."""
        return re.compile(r"\s*").match(self.text, owner.start + 1).group() if owner else ""  # type: ignore[union-attr]

    def _behind(self, owner: _Object | _List, texts: list[str], space: str) -> Insertion:
        place = owner.start + len(self.text[owner.start : owner.end - 1].rstrip())
        joined = ",".join(texts)
        return place, f",{joined}" if owner else joined.removeprefix(space or " ")

    def _dump(self, value: object) -> str:
        return json.dumps(value, ensure_ascii=self._ascii)


def _insertions(writer: _Writer, by_line: bool, added: AddedColumns) -> Iterator[Insertion]:
    """All that is put into the text."""
    values = list(_values(writer.text))
    document = is_document(writer.text, values, by_line)
    found = records_of("", values, document, every_part=True)
    own = [(number, record) for number, record in found.rows if isinstance(record, _Object)]
    added.check_places(number for number, _ in found.rows)
    if len(own) == len(found.rows) and not found.derived:
        for number, record in own:
            if cells := added.rows.get(number):
                yield writer.keys(record, dict(zip(added.names, cells, strict=True)))
        return
    rows = [added.rows.get(number, (None,) * len(added.names)) for number, _ in found.rows]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(added.names)}
    for container in _containers(values[0][1] if document else [value for _, value in values]):
        if made := list(_in_columns(writer, container, found.rows, columns)):
            yield from made
            return
    raise NoPlaceError("in this layout of JSON rows have no place for a further key")


def _in_columns(writer: _Writer, container: Any, rows: list[tuple[int, Any]], columns: dict[str, list]) -> Iterator[Insertion]:
    """What is put into a `container` whose rows are spread over lists; nothing where it is none of these rows."""
    names = list(rows[0][1])
    if isinstance(container, _Object):
        table = container.get("data")
        if isinstance(container.get("columns"), _List) and isinstance(table, _List) and len(table) == len(rows):
            yield writer.items(container["columns"], list(columns))
            yield from _in_rows(writer, table, columns)
        elif {name for name, part in container.items() if isinstance(part, list) and len(part) == len(rows)} == set(names):
            yield writer.keys(container, columns)
        elif list(container) == names and all(isinstance(part, dict) for part in container.values()):
            index = list(dict.fromkeys(key for part in container.values() for key in part))
            if len(index) == len(rows):
                yield writer.keys(container, {name: dict(zip(index, cells, strict=True)) for name, cells in columns.items()})
    elif isinstance(container, list) and len(container) == len(rows) + 1 and container[0] == names:
        yield writer.items(container[0], list(columns))
        yield from _in_rows(writer, container[1:], columns)


def _in_rows(writer: _Writer, table: list, columns: dict[str, list]) -> Iterator[Insertion]:
    for row, cells in zip(table, zip(*columns.values(), strict=True), strict=True):
        yield writer.items(row, list(cells))


def _containers(value: Any) -> Iterator[Any]:
    """`value`, and what is in it, from the outside in."""
    yield value
    if isinstance(value, dict):
        for part in value.values():
            yield from _containers(part)


def _values(text: str) -> Iterator[tuple[int, Any]]:
    """(line, value) of each value of `text`."""
    lines = [found.end() for found in re.finditer(r"\r\n|\n|\r", text)]
    space, position = re.compile(r"[ \t\r\n]*"), 0
    while (start := space.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        value, position = _DECODER.raw_decode(text, start)
        yield bisect_right(lines, start) + 1, value


def _object(place: tuple[str, int], *rest: Any) -> tuple[_Object, int]:
    value, end = JSONObject(place, *rest)
    made = _Object(value)
    made.start, made.end = place[1] - 1, end
    return made, end


def _list(place: tuple[str, int], *rest: Any) -> tuple[_List, int]:
    value, end = JSONArray(place, *rest)
    made = _List(value)
    made.start, made.end = place[1] - 1, end
    return made, end


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_DECODER.parse_object, _DECODER.parse_array = _object, _list  # type: ignore[attr-defined]
_DECODER.scan_once = py_make_scanner(_DECODER)  # type: ignore[attr-defined]
