"""Which rows a run uses: shares that lie in each other, and held-out rows of which each does one thing."""

from itertools import pairwise

import pytest
from datasets import Dataset

from job.data.used_rows import divide_held_out, share_of_training
from job.errors import DataError

ROWS = Dataset.from_dict({"input": [f"question {number}" for number in range(40)], "labels": [[1]] * 40})


def inputs(rows: Dataset) -> list[str]:
    return rows["input"][:]


def test_a_smaller_share_of_the_training_rows_is_a_part_of_a_larger_one():
    shares = [inputs(share_of_training(ROWS, fraction, seed=42)) for fraction in (0.1, 0.3, 0.75, 1)]
    assert [len(share) for share in shares] == [4, 12, 30, 40]
    assert all(set(small) < set(large) for small, large in pairwise(shares))


def test_a_share_keeps_the_order_of_the_rows_and_depends_on_the_seed():
    share = inputs(share_of_training(ROWS, 0.5, seed=42))
    assert share == sorted(share, key=inputs(ROWS).index)
    assert share == inputs(share_of_training(ROWS, 0.5, seed=42))
    assert set(share) != set(inputs(share_of_training(ROWS, 0.5, seed=43)))


def test_the_smallest_share_is_one_row():
    assert len(share_of_training(ROWS, 0.001, seed=0)) == 1


def test_every_held_out_row_chooses_or_judges_and_none_does_both():
    choosing, testing = (set(inputs(part)) for part in divide_held_out(ROWS, 0.25, seed=42))
    assert (len(choosing), len(testing)) == (30, 10)
    assert choosing | testing == set(inputs(ROWS))
    assert not choosing & testing


def test_rows_of_the_same_input_are_on_the_same_side():
    twice = Dataset.from_dict({"input": [f"question {number // 2}" for number in range(40)]})
    choosing, testing = (inputs(part) for part in divide_held_out(twice, 0.5, seed=1))
    assert not set(choosing) & set(testing)
    assert len(testing) == 20


def test_without_a_fraction_all_rows_do_both():
    assert divide_held_out(ROWS, 0, seed=42) == (ROWS, ROWS)


def test_rows_that_came_as_tokens_are_divided_by_their_tokens():
    tokens = Dataset.from_dict({"input_ids": [[number, number] for number in range(10)]})
    choosing, testing = divide_held_out(tokens, 0.5, seed=42)
    assert sorted(choosing["input_ids"][:] + testing["input_ids"][:]) == tokens["input_ids"][:]


def test_one_held_out_row_cannot_be_divided():
    with pytest.raises(DataError, match=r"TEST_FRACTION=0.5: of 1 held-out rows none is left .* set TEST_FRACTION=0"):
        divide_held_out(ROWS.select([0]), 0.5, seed=42)
