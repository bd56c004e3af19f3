"""Table -> examples: prompt and right answer as text, or a chat; every cell that is used is checked."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from job.data.chat_rows import chat_examples, open_chats
from job.data.chat_shapes import find_chats
from job.data.chat_template import Chat
from job.data.column_mapping import AUTO, ColumnMapping, as_spelt
from job.data.empty_rows import find_empty, is_empty
from job.data.fields import parsed, with_fields
from job.data.shapes import Shape, no_column, recognise
from job.data.template import Template
from job.data.token_lengths import ROWS_AT_ONCE
from job.errors import DataError, SettingsError
from job.system.user_function import load_function, own_errors
from job.tables.cell_text import answer_of, is_one_of_several, shown
from job.tables.read import in_memory
from job.tables.table import Table

log = logging.getLogger(__name__)

Row = dict[str, Any]
TEXT = (Value("string"), Value("large_string"))


def shape_of(table: Table, columns: ColumnMapping) -> Shape:
    """How `table` is read, after PREPROCESS if there is one: its first row shows the columns.

    Raises DataError or SettingsError where that is not clear.
    """
    if columns.preprocess:
        table = preprocess(replace(table, rows=table.rows.select([0])), columns.preprocess)
    shape = recognise(table, columns)
    if columns.template != AUTO:
        Template(columns.template, shape.columns.input).check_names(list(shape.found))
    return shape


def to_examples(table: Table, columns: ColumnMapping, cache: Path) -> Dataset:
    """The examples of `table`: columns `input`, `prompt`, `ground_truth`, or for chats `messages`, and `row`, its name for people.

    cache: file where they are kept, so that a table larger than the memory will do.
    Raises DataError naming the rows without an input or an answer, unless EMPTY_ROWS leaves them out; a log line says how many.
    """
    if columns.preprocess:
        table = preprocess(table, columns.preprocess)
    shape = recognise(table, columns)
    columns = shape.columns
    if shape.is_chat:
        found = find_chats(table, columns.messages)
        return chat_examples(found.table if found else table, columns.messages, cache)
    template = Template(columns.template, columns.input)
    table = with_fields(table, [columns.input, columns.target, *template.columns])
    _check_columns(table, columns, template)
    used = list(dict.fromkeys([columns.input, columns.target, *_read_by(template, table)]))
    left_out = find_empty(table, _rows(table, used), template.columns, columns)
    _tell_of_several(table, columns.target)

    def make(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        kept = [(index, row) for index, row in zip(indices, _unpacked(batch, table), strict=True) if index not in left_out]
        prompts = [_fill(template, row, table, index) for index, row in kept]
        inputs = [shown(row[columns.input]) for _, row in kept]
        return {
            "input": [
                prompt if template.is_jinja or is_empty(text) else text for prompt, text in zip(prompts, inputs, strict=True)
            ],
            "prompt": prompts,
            "ground_truth": [answer_of(row[columns.target]) for _, row in kept],
            "row": [table.row_name(index) for index, _ in kept],
        }

    return _mapped(table.rows.select_columns(used), make, cache)


def to_prompts(table: Table, columns: ColumnMapping) -> list[str]:
    """The prompts of a table without right answers."""
    if columns.preprocess:
        table = preprocess(table, columns.preprocess)
    columns = as_spelt(columns, table.rows.column_names)
    template = Template(columns.template, columns.input)
    table = with_fields(table, template.columns)
    for name in template.columns:
        if name not in table.rows.column_names:
            raise no_column(table, name, "INPUT_COLUMN" if name == columns.input else "PROMPT_TEMPLATE")
    used = _read_by(template, table)
    find_empty(table, _rows(table, used), template.columns, replace(columns, target="", empty_rows="error"))
    return [_fill(template, row, table, index) for index, row in enumerate(_rows(table, used))]


def to_chats(table: Table, columns: ColumnMapping, opening: Chat) -> list[Chat]:
    """The chats of a table that wait for an answer: its messages, or a cell of the input column after `opening`."""
    if columns.preprocess:
        table = preprocess(table, columns.preprocess)
    columns = as_spelt(columns, table.rows.column_names)
    found = find_chats(table, columns.messages)
    if found and columns.input not in table.rows.column_names:
        return open_chats(found.table, columns.messages)
    table = with_fields(table, [columns.input])
    if columns.input not in table.rows.column_names:
        raise no_column(table, columns.input, "INPUT_COLUMN")
    find_empty(table, _rows(table, [columns.input]), (columns.input,), replace(columns, target="", empty_rows="error"))
    return [
        Chat(
            [*opening.messages, {"role": "user", "content": shown(cell)}], opening.tools, f"{table.source}: {table.row_name(index)}"
        )
        for index, cell in enumerate(table.cells(columns.input))
    ]


def preprocess(table: Table, spec: str) -> Table:
    """`table` with its rows as the function that `spec` names rewrites them."""
    function = load_function(spec, "PREPROCESS")
    rows = [_call(function, row, table.row_name(index), spec) for index, row in enumerate(table.rows)]
    names = dict.fromkeys(name for row in rows for name in row)
    made, kept_as_json = in_memory({name: [row.get(name) for row in rows] for name in names})
    return replace(table, rows=made, kept_as_json=kept_as_json)


def _call(function: Callable, row: Mapping, row_name: str, spec: str) -> Mapping:
    with own_errors(f"PREPROCESS={spec}", f" on {row_name}. Fix the function."):
        result = function(dict(row))
    if not isinstance(result, dict):
        raise SettingsError(f"PREPROCESS={spec} returned {type(result).__name__} on {row_name}; expected a dict.")
    return result


def _check_columns(table: Table, columns: ColumnMapping, template: Template) -> None:
    found = table.rows.column_names
    wanted = [(columns.target, "TARGET_COLUMN"), (columns.input, "INPUT_COLUMN")]
    for name, variable in [*wanted, *((name, "PROMPT_TEMPLATE") for name in template.columns)]:
        if name not in found:
            raise no_column(table, name, variable)
        if getattr(table.rows.features[name], "dtype", "").endswith("binary"):
            raise DataError(f'{table.source}: column "{name}" holds bytes that are no text. Set {variable} to another column.')


def _read_by(template: Template, table: Table) -> list[str]:
    return table.rows.column_names if template.reads_whole_row else list(template.columns)


def _tell_of_several(table: Table, target: str) -> None:
    """Logs how many rows have a list of different answers, of which the first is trained on."""
    if table.rows.features[target] in TEXT and target not in table.kept_as_json:
        return
    if several := sum(is_one_of_several(row[target]) for row in _rows(table, [target])):
        log.warning('%s: %d rows have several answers in "%s": the first of each is the right one', table.source, several, target)


def _fill(template: Template, row: Row, table: Table, index: int) -> str:
    """The prompt of a row; nested cells stand in it as JSON, but in Jinja, which looks into them."""
    try:
        return template.fill(row if template.is_jinja else {name: shown(cell) for name, cell in row.items()})
    except SettingsError as error:
        raise SettingsError(f"{table.source}: {table.row_name(index)}: {error}") from None


def _rows(table: Table, names: list[str]) -> Iterator[Row]:
    """The rows of these columns, few of them in memory at once."""
    for batch in table.rows.select_columns(names).iter(batch_size=ROWS_AT_ONCE):
        yield from _unpacked(batch, table)


def _unpacked(batch: dict[str, list], table: Table) -> Iterator[Row]:
    """The rows of a batch; cells that are kept as JSON as what they say."""
    cells = [map(parsed, cells) if name in table.kept_as_json else cells for name, cells in batch.items()]
    yield from (dict(zip(batch, row, strict=True)) for row in zip(*cells, strict=True))


def _mapped(rows: Dataset, make: Callable, cache: Path) -> Dataset:
    """What `make` makes of batches of `rows` and their indices, without the columns that were there."""
    return rows.map(
        make,
        batched=True,
        with_indices=True,
        remove_columns=rows.column_names,
        features=Features({name: Value("string") for name in ("input", "prompt", "ground_truth", "row")}),
        cache_file_name=str(cache),
        desc="read",
    )
