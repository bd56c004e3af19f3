"""Whether a table's first row names its columns."""

import re
from itertools import islice

from job.tables.table import Table

WORDS, LETTERS = 5, 80
"""No name of a column has as many."""
ROWS = 1_000
NO_NAME = re.compile(r"[-+]?[\d.,:/ -]*\d[\d.,:/ %-]*|\S+@\S+\.\S+|\w+://.*", re.DOTALL)
"""A number, a date, an address."""


def is_data(table: Table) -> bool:
    """Whether what should name the columns looks like a row: a sentence, a number, an address, or what stands below it too."""
    return any(_is_cell(name, table) for name in table.rows.column_names)


def _is_cell(name: str, table: Table) -> bool:
    if len(name) > LETTERS or len(name.split()) > WORDS or NO_NAME.fullmatch(name):
        return True
    return bool(name) and name in islice(table.cells(name), ROWS)
