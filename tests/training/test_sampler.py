"""The order of the rows."""

from itertools import pairwise

import torch

from job.training.sampler import LengthGroupedSampler

LENGTHS = torch.randint(1, 500, (403,), generator=torch.Generator().manual_seed(0)).tolist()


def order(epoch: int, seed: int = 1) -> list[int]:
    sampler = LengthGroupedSampler(LENGTHS, 8, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_row_comes_once_an_epoch():
    for epoch in range(3):
        assert sorted(order(epoch)) == list(range(403))


def test_the_order_depends_on_seed_and_epoch_and_nothing_else():
    first = order(1)
    torch.manual_seed(999)
    torch.rand(5)
    assert order(1) == first
    assert order(2) != first
    assert order(1, seed=2) != first


def test_the_longest_row_comes_first_so_that_too_little_memory_shows_at_once():
    assert all(LENGTHS[order(epoch)[0]] == max(LENGTHS) for epoch in range(5))


def test_batches_hold_rows_of_like_length():
    def padding(indices: list[int]) -> float:
        batches = [indices[start : start + 8] for start in range(0, len(indices), 8)]
        places = sum(len(batch) * max(LENGTHS[index] for index in batch) for batch in batches)
        return 1 - sum(LENGTHS) / places

    assert padding(order(0)) < 0.15
    assert padding(list(range(403))) > 0.35


def test_batches_of_different_lengths_are_mixed_over_the_epoch():
    indices = order(0)
    batches = [max(LENGTHS[index] for index in indices[start : start + 8]) for start in range(8, 392, 8)]
    falls = sum(later < earlier for earlier, later in pairwise(batches))
    assert 0.3 < falls / len(batches) < 0.7
