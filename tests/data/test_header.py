"""A first row that names no columns is seen."""

import pytest
from datasets import Dataset

from job.data.header import is_data
from job.tables.table import Source, Table


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"input": ["a"], "output_ground_truth": ["b"]}, False),
        ({"Frage des Kunden": ["a"], "Q1": ["b"], "": ["c"], "2nd": ["d"]}, False),
        ({"please book a room for the team": ["a"], "x": ["b"]}, True),
        ({"text": ["a"], "spam": ["ham", "spam"]}, True),
        ({"17": ["a"], "x": ["b"]}, True),
        ({"2026-11-26": ["a"], "x": ["b"]}, True),
        ({"me@example.org": ["a"]}, True),
    ],
)
def test_a_sentence_a_number_an_address_or_a_cell_from_below_is_no_name(columns, expected):
    rows = Dataset.from_dict({name: cells + [None] * (2 - len(cells)) for name, cells in columns.items()})
    assert is_data(Table(Source("", ""), rows)) is expected
