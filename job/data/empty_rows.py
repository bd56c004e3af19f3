"""Rows without an input or an answer: blank ones are skipped, the others left out or refused, as EMPTY_ROWS says."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from job.data.column_mapping import ColumnMapping
from job.errors import DataError
from job.tables.cell_text import answer_of, shown
from job.tables.file_rows import first_of
from job.tables.table import Table

log = logging.getLogger(__name__)


def is_empty(cell: Any) -> bool:
    """Whether `cell` holds nothing that can be read: null, blanks, an empty list."""
    return cell is None or cell in ([], {}) or (isinstance(cell, str) and not cell.strip())


def find_empty(table: Table, rows: Iterable[dict], inputs: Sequence[str], columns: ColumnMapping) -> frozenset[int]:
    """Indices of the rows to leave out: blank ones, and with EMPTY_ROWS=drop those without input or answer.

    rows: of `table`. inputs: columns that the prompt is made of; a row with one of them filled has an input.
    Raises DataError for columns that cannot be used, and for rows without input or answer, unless they are to be dropped.
    """
    table.check_usable([*inputs, columns.input, columns.target])
    blank, missing = [], {columns.target: [], columns.input: []}  # type: ignore[var-annotated]
    for index, row in enumerate(rows):
        no_input = bool(inputs) and all(is_empty(shown(row[name])) for name in inputs)
        no_answer = columns.target in row and is_empty(answer_of(row[columns.target]))
        if no_input and (no_answer or not columns.target) and all(is_empty(cell) for cell in table.rows[index].values()):
            blank.append(index)
        elif no_answer or no_input:
            missing[columns.target if no_answer else columns.input].append(index)
    if blank and not columns.target:
        missing[columns.input] = sorted(blank + missing[columns.input])
    elif blank:
        log.info("%s: blank rows are skipped (%d): %s", table.source, len(blank), first_of(blank, table.row_name))
    for column, indices in missing.items():
        if indices and columns.empty_rows == "error":
            raise DataError(
                f'{table.source}: {first_of(indices, table.row_name)}, column "{column}": the cell is empty'
                f"{_or_error(table, column)}. Fill it in, delete the row, or set EMPTY_ROWS=drop to leave such rows out."
            )
        if indices:
            log.warning(
                '%s: EMPTY_ROWS=drop leaves out %d rows whose "%s" is empty: %s',
                table.source,
                len(indices),
                column,
                first_of(indices, table.row_name),
            )
    left_out = frozenset(blank).union(*missing.values())
    if len(left_out) == len(table.rows):
        raise DataError(f'{table.source}: no row has both an input and an answer in "{columns.input}" and "{columns.target}".')
    return left_out


def _or_error(table: Table, column: str) -> str:
    """What else than nothing may stand in the empty cells of a column: what a spreadsheet program shows for a failed formula."""
    has_errors = any(f'column "{column}": ' in note and "with an error" in note for note in table.notes)
    return " or holds an error such as #N/A" if has_errors else ""
