"""Rows that are too long: which are left out, and how each is listed, worked out by hand."""

import csv

import pytest
from datasets import Dataset

from job.data.cut import cut, list_cut_rows

LENGTHS = [(3, 2), (9, 2), (3, 7)]
TOKENISED = Dataset.from_dict(
    {
        "row": ["row 2", "row 3", "row 4"],
        "source_ids": [[5] * source for source, _ in LENGTHS],
        "target_ids": [[6] * target for _, target in LENGTHS],
    }
)


@pytest.mark.parametrize(
    ("too_long", "counts", "left", "dropped"),
    [
        ("truncate", [2, 2, 5], [0, 1, 2], ()),
        ("drop", [2, 2, 5], [0], ("row 3", "row 4")),
        ("truncate", [2, 0, 5], [0, 2], ("row 3",)),
    ],
)
def test_rows_are_left_out_if_that_is_wanted_or_if_no_label_is_left(too_long, counts, left, dropped):
    assembled = Dataset.from_dict({"row": TOKENISED["row"], "label_count": counts, "number": [0, 1, 2]})
    rows, cost = cut(TOKENISED, assembled, (4, 5), too_long)
    assert rows.to_dict() == {"row": [TOKENISED["row"][place] for place in left], "number": left}
    assert (cost.rows, cost.dropped) == (len(left), dropped)
    assert (cost.sources_cut, cost.source_tokens_cut, cost.targets_cut, cost.target_tokens_cut) == (1, 5, 1, 2)


def test_each_row_that_is_too_long_has_a_line(tmp_path):
    list_cut_rows(tmp_path / "cut.csv", {"train": TOKENISED, "eval": TOKENISED.select([0])}, (4, 5))
    with (tmp_path / "cut.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["train", "row 3", "9", "4", "2", "2"], ["train", "row 4", "3", "3", "7", "5"]]
