"""Which rows of a table are asked: those with an input. The others keep their places, and stay unanswered."""

import logging
from collections.abc import Sequence

from job.data.column_mapping import ColumnMapping, as_spelt
from job.data.empty_rows import is_empty
from job.data.fields import parsed, with_fields
from job.data.template import Template
from job.errors import DataError
from job.tables.cell_text import shown
from job.tables.file_rows import first_of
from job.tables.table import Table

log = logging.getLogger(__name__)


def asked_rows(table: Table, columns: ColumnMapping, is_chat: bool) -> list[int]:
    """Indices of the rows with an input; a warning says how many have none, and which. Raises DataError if no row has one.

    An input is there if one of the columns that a prompt is made of has something in it.
    """
    columns = as_spelt(columns, table.rows.column_names)
    names = _input_columns(columns, is_chat, table.rows.column_names)
    table = with_fields(table, names)
    names = [name for name in names if name in table.rows.column_names]
    if not names:
        return list(range(len(table.rows)))
    cells = [table.cells(name) for name in names]
    seen = parsed if is_chat else shown
    empty = [index for index, row in enumerate(zip(*cells, strict=True)) if all(is_empty(seen(cell)) for cell in row)]
    if len(empty) == len(table.rows):
        raise DataError(f'{table.source}: the column "{names[0]}" is empty in all {len(empty)} rows. Fill it in.')
    if empty:
        named = first_of(empty, table.row_name)
        have, stay = ("row has", "stays") if len(empty) == 1 else ("rows have", "stay")
        log.warning('%s: %d %s no "%s" and %s unanswered: %s', table.source, len(empty), have, names[0], stay, named)
    left_out = set(empty)
    return [index for index in range(len(table.rows)) if index not in left_out]


def _input_columns(columns: ColumnMapping, is_chat: bool, found: Sequence[str]) -> Sequence[str]:
    """The columns that a prompt is made of."""
    if is_chat:
        return [columns.input if columns.input in found else columns.messages]
    return Template(columns.template, columns.input).columns
