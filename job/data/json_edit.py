"""JSON with a further key in each row: it is put into the text, and all else stays as it is written, numbers and spaces too."""

import io
import json
import re
from collections.abc import Callable, Iterator
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from job.data.added_columns import AddedColumns, Cell
from job.data.encodings import Decoded, decode
from job.errors import OutputError

Insertion = tuple[int, str]
"""Where a text is put in, and the text."""


class _Object(dict):
    """An object, with the places of its braces."""

    start = end = 0


class _List(list):
    """A list, with the places of its brackets."""

    start = end = 0


def edit_json(source: Path, target: Path, added: AddedColumns) -> None:
    """Writes the JSON file `source` with `added` to `target`, at the end of each row's object or list.

    Raises OutputError for a layout in which rows have no place of their own.
    """
    decoded = decode(str(source), source.name, source.read_bytes())
    insertions = sorted(_insertions(decoded, source.suffix.lower() != ".json", added))
    pieces, position = [], 0
    for place, text in insertions:
        pieces += [decoded.text[position:place], text]
        position = place
    edited = "".join([*pieces, decoded.text[position:]])
    target.write_bytes(BYTE_ORDER_MARK.get(decoded.mark, "").encode(decoded.encoding) + edited.encode(decoded.encoding))
