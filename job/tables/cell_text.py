"""How a typed cell becomes text: as a person sees it, the same in every format, in training and in predict."""

import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset


def as_text(cell: Any) -> Any:
    """`cell` as text; None for an empty one (also NaN, as pandas writes it); text, lists and dicts as they are."""
    if cell is None or isinstance(cell, str | list | dict):
        return cell
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, float | np.floating):
        return None if math.isnan(cell) else str(cell)
    if isinstance(cell, datetime):
        return _date_text(cell)
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, Decimal):
        return format(cell, "f")
    return str(cell)


def text_rows(rows: Dataset) -> Dataset:
    """`rows` with text in all columns but those that nest; columns of text stay mapped from the disk."""
    rows = rows.flatten_indices() if rows._indices is not None else rows
    columns = {name: rows.data.column(name) for name in rows.column_names}
    texts = {name: text_array(cells, rows.features.get(name)) for name, cells in columns.items()}
    return Dataset(pa.table(texts)) if any(texts[name] is not columns[name] for name in texts) else rows


def text_array(cells: pa.ChunkedArray, feature: object = None) -> pa.ChunkedArray:
    """`cells` as text, unless they are text or nest. feature: how `datasets` reads them, for the names of classes."""
    kind = cells.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_nested(kind):
        return cells
    if isinstance(feature, ClassLabel):
        return pa.chunked_array([pa.array([_class_name(cell, feature) for cell in cells.to_pylist()], pa.string())])
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return cells.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(cells)
    if pa.types.is_dictionary(kind):
        return text_array(pa.chunked_array([chunk.dictionary_decode() for chunk in cells.chunks], kind.value_type))
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):  # by its own digits: 0.1, not 0.10000000149011612
        precise = np.float16 if pa.types.is_float16(kind) else np.float32
        return _made([None if cell is None else precise(cell) for cell in cells.to_pylist()])
    try:
        return _made(cells.to_pylist())
    except (OverflowError, ValueError):  # moments that Python has no form for: of the year 146,000, or half a microsecond
        return cells.cast(pa.string())


def _made(cells: list) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([as_text(cell) for cell in cells], pa.string())])


def _decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bytes that are UTF-8 as text, others as they are: some programs mark no text as such in a parquet file."""
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        return cells


def _class_name(cell: int | None, feature: ClassLabel) -> str | None:
    """The name of a class; datasets without answers have -1 there."""
    return None if cell is None or not 0 <= cell < len(feature.names) else feature.names[cell]


def _date_text(moment: datetime) -> str:
    """2026-11-26, with the time where there is one."""
    whole_day = moment.tzinfo is None and moment.time() == time() and not getattr(moment, "nanosecond", 0)
    return moment.date().isoformat() if whole_day else moment.isoformat(sep=" ")


def shown(cell: Any) -> str | None:
    """`cell` as text: a list or an object as its JSON."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else as_text(cell)


def answer_of(cell: Any) -> str | None:
    """The right answer that `cell` holds: of a list of answers the first that is not empty; all else as it is shown."""
    if not _is_list_of_answers(cell):
        return shown(cell)
    return next((text for text in map(as_text, cell) if text and text.strip()), None)


def is_one_of_several(cell: Any) -> bool:
    """Whether `cell` holds different answers."""
    return _is_list_of_answers(cell) and len(set(map(as_text, cell))) > 1


def _is_list_of_answers(cell: Any) -> bool:
    return isinstance(cell, list) and not any(isinstance(item, list | dict) for item in cell)
