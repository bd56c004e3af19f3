"""The order of the rows: every row once an epoch, told by seed and epoch alone, dealt by tokens."""

import itertools

import numpy as np
import pytest

from job.training.order import Order, deal, micro_batches

LENGTHS = np.random.default_rng(0).integers(1, 200, 101).tolist()


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 101])
def test_every_row_comes_once_an_epoch_and_only_the_last_batch_is_smaller(rows, grouped):
    order = Order(LENGTHS[:rows], 8, seed=1, group_by_length=grouped)
    for epoch in range(3):
        batches = order.epoch(epoch)
        assert sorted(itertools.chain(*batches)) == list(range(rows))
        assert [len(batch) for batch in batches[:-1]] == [8] * (len(batches) - 1)
        assert len(batches) == order.steps_per_epoch


@pytest.mark.parametrize("grouped", [True, False])
def test_the_order_is_told_by_seed_and_epoch_alone(grouped):
    one, other = Order(LENGTHS, 8, 1, grouped), Order(LENGTHS, 8, 1, grouped)
    later = [one.batch(step) for step in range(30)]
    assert other.batch(20) == later[20], "whatever was asked before"
    assert one.epoch(0) != one.epoch(1)
    assert one.epoch(0) != Order(LENGTHS, 8, 2, grouped).epoch(0)


def test_the_batch_of_a_step_is_that_of_its_epoch():
    order = Order(LENGTHS, 8, 1, True)
    assert order.steps_per_epoch == 13
    assert order.batch(0) == order.epoch(0)[0]
    assert order.batch(12) == order.epoch(0)[12]
    assert order.batch(13) == order.epoch(1)[0]


def test_the_longest_row_is_in_the_first_batch_of_grouped_rows():
    order = Order(LENGTHS, 8, 1, True)
    assert all(LENGTHS[order.epoch(epoch)[0][0]] == max(LENGTHS) for epoch in range(5)), "as its first row"


def test_grouped_batches_hold_rows_of_like_length():
    def spread(grouped: bool) -> float:
        return np.mean([np.std([LENGTHS[row] for row in batch]) for batch in Order(LENGTHS, 8, 1, grouped).epoch(0)[1:]])

    assert spread(True) < spread(False) / 2


def test_grouped_batches_waste_little_padding_and_are_mixed_over_the_epoch():
    lengths = np.random.default_rng(0).integers(1, 500, 403).tolist()

    def padding(batches: list[list[int]]) -> float:
        return 1 - sum(lengths) / sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    batches = Order(lengths, 8, 1, True).epoch(0)
    assert padding(batches) < 0.15
    assert padding([list(range(start, min(start + 8, 403))) for start in range(0, 403, 8)]) > 0.35
    longest = [max(lengths[row] for row in batch) for batch in batches[1:-1]]
    falls = sum(later < earlier for earlier, later in itertools.pairwise(longest))
    assert 0.3 < falls / len(longest) < 0.7


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_dealing_loses_no_row_and_gives_each_part_about_as_many_tokens(parts):
    dealt = deal(range(101), LENGTHS, parts)
    assert sorted(itertools.chain(*dealt)) == list(range(101))
    tokens = [sum(LENGTHS[row] for row in part) for part in dealt]
    assert max(tokens) - min(tokens) <= max(LENGTHS)
    assert all([LENGTHS[row] for row in part] == sorted((LENGTHS[row] for row in part), reverse=True) for part in dealt)


def test_fewer_rows_than_parts_leave_parts_empty():
    assert [len(part) for part in deal([4, 9], LENGTHS, 3)] == [1, 1, 0]


def test_micro_batches_are_of_one_size_but_for_the_last():
    assert micro_batches([5, 4, 3, 2, 1], 2) == [[5, 4], [3, 2], [1]]
    assert micro_batches([], 2) == []
