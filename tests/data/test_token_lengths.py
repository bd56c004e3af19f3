"""Lengths read off Arrow are the lengths of the lists."""

import pytest
from datasets import Dataset, concatenate_datasets

from job.data import token_lengths as module
from job.data.token_lengths import answer_lengths, expand_counts, token_lengths

LISTS = [[5, 6, 1], [], [7], [8] * 300, [9, 1]]
LABELS = [[-100, -100, 5, 1], [-100], [7, 1], [-100, 5, -100, 6, 1], []]


def layouts(lists: list[list[int]]) -> dict[str, tuple[Dataset, list[list[int]]]]:
    """The same lists as datasets that lie differently in memory: (dataset, what it holds)."""
    whole = Dataset.from_dict({"labels": lists, "other": ["x"] * len(lists)})
    return {
        "whole": (whole, lists),
        "reordered": (whole.select([4, 0, 3]), [lists[place] for place in (4, 0, 3)]),
        "a part": (whole.select(range(1, 4)), lists[1:4]),
        "in pieces": (concatenate_datasets([whole, whole.select([2])]), [*lists, lists[2]]),
    }


@pytest.mark.parametrize("layout", ["whole", "reordered", "a part", "in pieces"])
@pytest.mark.parametrize("rows_at_once", [2, 10_000])
def test_lengths_are_those_of_the_lists(layout, rows_at_once, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    rows, lists = layouts(LISTS)[layout]
    found = token_lengths(rows, "labels")
    assert found.dtype == "int64"
    assert found.tolist() == list(map(len, lists))


@pytest.mark.parametrize("layout", ["whole", "reordered", "a part", "in pieces"])
@pytest.mark.parametrize("rows_at_once", [2, 10_000])
def test_the_length_of_an_answer_counts_no_ignored_label(layout, rows_at_once, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    rows, lists = layouts(LABELS)[layout]
    found = answer_lengths(rows)
    assert found.dtype == "int64"
    assert found.tolist() == [len(labels) - labels.count(-100) for labels in lists]


def test_a_label_of_zero_is_a_label():
    assert answer_lengths(Dataset.from_dict({"labels": [[0, -100, 0]]})).tolist() == [2]


def test_no_rows_have_no_lengths():
    rows = Dataset.from_dict({"labels": LISTS}).select([])
    assert token_lengths(rows, "labels").tolist() == answer_lengths(rows).tolist() == []


def test_counted_lengths_come_back_each_as_often_as_it_was():
    assert expand_counts({"3": 2, "10": 1, "7": 0}).tolist() == [3, 3, 10]
    assert expand_counts({}).tolist() == []
