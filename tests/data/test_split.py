"""Training rows and held-out rows."""

import random
from dataclasses import replace

import pytest
from datasets import Dataset

from job.data.split import digest_keys, own_held_out, split_rows
from job.errors import DataError
from job.tables.table import Source, Table

TABLE = Table(Source("TRAIN_DATA", "a.csv"), Dataset.from_dict({"input": []}))


def keys_of(keys: list[str], seed: int = 42, fraction: float = 0.2) -> tuple[list[str], list[str]]:
    training, held_out = (side.tolist() for side in split_rows(digest_keys(keys, seed), fraction, TABLE))
    assert sorted(training + held_out) == list(range(len(keys)))
    return [keys[index] for index in training], [keys[index] for index in held_out]


def test_the_share_that_was_asked_for_is_held_out():
    for count, fraction, expected in ((100, 0.2, 20), (1000, 0.05, 50), (7, 0.2, 1), (10, 0.5, 5), (3, 0.01, 1)):
        assert len(keys_of([str(number) for number in range(count)], fraction=fraction)[1]) == expected


def test_duplicates_never_straddle():
    keys = [str(number % 30) for number in range(300)]
    training, held_out = keys_of(keys)
    assert not set(training) & set(held_out)
    assert len(held_out) == 60


def test_the_split_is_the_same_on_every_machine():
    """The three smallest of `printf "42:row N" | sha256sum` for N from 0 to 11."""
    digests = digest_keys((f"row {number}" for number in range(12)), 42)
    assert split_rows(digests, 0.25, TABLE)[1].tolist() == [0, 6, 8]


def test_the_split_does_not_depend_on_the_order_of_the_rows_but_on_the_seed():
    keys = [f"row {number}" for number in range(50)]
    shuffled = random.Random(1).sample(keys, k=50)
    assert set(keys_of(keys)[1]) == set(keys_of(shuffled)[1])
    assert set(keys_of(keys)[1]) != set(keys_of(keys, seed=1)[1])


def test_a_huge_group_of_duplicates_does_not_swallow_the_training_rows():
    keys = ["same"] * 90 + [str(number) for number in range(10)]
    for seed in range(20):
        training, held_out = keys_of(keys, seed=seed)
        assert training
        assert held_out


def test_one_question_cannot_be_split():
    with pytest.raises(DataError, match="1 different row is too few"):
        split_rows(digest_keys(["same"] * 10, 42), 0.2, TABLE)


def test_rows_that_a_table_keeps_apart_are_held_out_unless_they_have_no_answers(caplog):
    def kept_apart(**columns: list) -> Table:
        return Table(Source("TRAIN_DATA", "d"), Dataset.from_dict(columns), [2], (("test.csv", 1),))

    train = Table(Source("TRAIN_DATA", "d"), Dataset.from_dict({"input": ["a"], "output": ["b"]}))
    answered = kept_apart(input=["c"], output=["d"])
    assert own_held_out(replace(train, held_out=answered), "output") is answered
    assert own_held_out(train, "output") is None
    assert caplog.records == []
    for without in (kept_apart(input=["c"]), kept_apart(input=["c"], output=[None])):
        assert own_held_out(replace(train, held_out=without), "output") is None
        assert 'test.csv row 2 and the other rows that are held apart have no "output"' in caplog.messages[-1]
