"""Table -> examples: prompt and right answer as text, or a chat; every cell that is used is checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from job.data.chat_rows import chat_examples, open_chats
from job.data.chat_template import Chat
from job.data.read import Table, in_memory
from job.data.template import Template
from job.errors import DataError, SettingsError
from job.system.user_function import describe, load_function


@dataclass(frozen=True)
class ColumnMapping:
    """What to take from a table."""

    input: str
    target: str
    messages: str
    template: str
    preprocess: str | None = None
    """A function that rewrites a row, as file.py:function."""


def to_examples(table: Table, columns: ColumnMapping, cache: Path) -> Dataset:
    """The examples of `table`: columns `input`, `prompt`, `ground_truth`, or for chats `messages`, and `row`, its name for people.

    cache: file where they are kept, so that a table larger than the memory will do.
    Raises DataError naming the row and the column of the first cell that is missing, empty or no text.
    """
    if columns.preprocess:
        table = _preprocess(table, columns.preprocess)
    if is_chat(table, columns):
        return chat_examples(table, columns.messages, cache)
    template = Template(columns.template, columns.input)
    _check_columns(table, columns, template)
    for name, variable in ((columns.input, "INPUT_COLUMN"), (columns.target, "TARGET_COLUMN")):
        _check_text(table, name, variable)
    for name in template.columns:
        _check_filled(table, name)
    used = list(dict.fromkeys([columns.input, columns.target, *template.columns]))

    def make(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        rows = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
        return {
            "input": batch[columns.input],
            "prompt": [template.fill(row) for row in rows],
            "ground_truth": batch[columns.target],
            "row": [table.row_name(index) for index in indices],
        }

    return _mapped(table.rows.select_columns(used), make, cache)


def to_prompts(table: Table, columns: ColumnMapping) -> list[str]:
    """The prompts of a table without right answers."""
    if columns.preprocess:
        table = _preprocess(table, columns.preprocess)
    template = Template(columns.template, columns.input)
    for name in template.columns:
        if name not in table.rows.column_names:
            raise DataError(_no_column(table, name, "INPUT_COLUMN" if name == columns.input else "PROMPT_TEMPLATE"))
        _check_filled(table, name)
    return [template.fill(row) for row in table.rows.select_columns(list(template.columns))]


def to_chats(table: Table, columns: ColumnMapping, opening: Chat) -> list[Chat]:
    """The chats of a table that wait for an answer: its messages, or a cell of the input column after `opening`."""
    if columns.preprocess:
        table = _preprocess(table, columns.preprocess)
    if not is_chat(table, columns):
        if columns.input not in table.rows.column_names:
            raise DataError(_no_column(table, columns.input, "INPUT_COLUMN"))
        _check_filled(table, columns.input)
        return [
            Chat([*opening.messages, {"role": "user", "content": text}], opening.tools, f"{table.source}: {table.row_name(index)}")
            for index, text in enumerate(table.cells(columns.input))
        ]
    return open_chats(table, columns.messages)


def is_chat(table: Table, columns: ColumnMapping) -> bool:
    """Whether the rows of `table` are chats."""
    return columns.messages in table.rows.column_names and columns.input not in table.rows.column_names


def _preprocess(table: Table, spec: str) -> Table:
    function = load_function(spec, "PREPROCESS")
    rows = [_call(function, row, table.row_name(index), spec) for index, row in enumerate(table.rows)]
    names = dict.fromkeys(name for row in rows for name in row)
    made, odd_cells = in_memory({name: [row.get(name) for row in rows] for name in names})
    return replace(table, rows=made, odd_cells=odd_cells)


def _call(function: Callable, row: Mapping, row_name: str, spec: str) -> Mapping:
    try:
        result = function(dict(row))
    except Exception as error:
        raise SettingsError(f"PREPROCESS={spec} raised {describe(error)} on {row_name}. Fix the function.") from error
    if not isinstance(result, dict):
        raise SettingsError(f"PREPROCESS={spec} returned {type(result).__name__} on {row_name}; expected a dict.")
    return result


def _check_columns(table: Table, columns: ColumnMapping, template: Template) -> None:
    found = table.rows.column_names
    if columns.target not in found:
        raise DataError(_no_column(table, columns.target, "TARGET_COLUMN"))
    if columns.input not in found:
        raise DataError(_no_column(table, columns.input, "INPUT_COLUMN"))
    for name in template.columns:
        if name not in found:
            raise DataError(_no_column(table, name, "PROMPT_TEMPLATE"))


def _no_column(table: Table, column: str, variable: str) -> str:
    found = ", ".join(f'"{name}"' for name in table.rows.column_names)
    advice = (
        "Name only columns that exist in PROMPT_TEMPLATE" if variable == "PROMPT_TEMPLATE" else f"Set {variable} to one of them"
    )
    if "conversations" in table.rows.column_names:
        advice += ", or MESSAGES_COLUMN=conversations for chats"
    return f'{table.source}: no column "{column}"; found {found}. {advice}.'


def _check_text(table: Table, column: str, variable: str) -> None:
    """Raises DataError unless every cell of `column` is text that is not blank."""
    _check_filled(table, column)
    kind = table.rows.features[column].dtype if hasattr(table.rows.features[column], "dtype") else "list"
    index = table.odd_cells.get(column, None if kind in ("string", "large_string") else 0)
    if index is not None:
        shown = str(table.rows[index][column])[:40]
        raise DataError(
            f'{table.source}: {table.row_name(index)}, column "{column}": found {shown}, no text. '
            f"Make the cells of that column text (in a spreadsheet: format it as text), or set {variable} to another column."
        )


def _check_filled(table: Table, column: str) -> None:
    """Raises DataError if a cell of `column` is null or blank."""
    table.check_usable([column])
    cells = table.rows.data.column(column)
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        empty = [index for index, cell in enumerate(table.cells(column)) if cell is None or not cell.strip()]
    else:
        empty = [index for index, cell in enumerate(table.cells(column)) if cell is None] if cells.null_count else []
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise DataError(
            f'{table.source}: {table.row_name(empty[0])}{more}, column "{column}": the cell is empty. Fill it in or delete the row.'
        )


def _mapped(rows: Dataset, make: Callable, cache: Path) -> Dataset:
    """What `make` makes of batches of `rows` and their indices, without the columns that were there."""
    columns = rows.column_names
    return rows.map(make, batched=True, with_indices=True, remove_columns=columns, cache_file_name=str(cache), desc="read")
