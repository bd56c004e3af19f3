"""The order of the rows: a function of their lengths, the seed and the step alone, so that nothing about it is stored."""

import functools
from collections.abc import Sequence

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

Batch = list[int]
"""Row numbers of an effective batch."""


class Order:
    """The effective batches of a training, by step: all rows once an epoch; the last batch of an epoch may be smaller."""

    def __init__(self, lengths: Sequence[int], effective_batch_size: int, seed: int, group_by_length: bool) -> None:
        """lengths: tokens of each row. group_by_length: rows of like length together, the longest row in the first batch."""
        self.lengths, self.effective_batch_size, self.seed = list(lengths), effective_batch_size, seed
        self.group_by_length = group_by_length
        self.steps_per_epoch = -(-len(self.lengths) // effective_batch_size)

    def batch(self, step: int) -> Batch:
        """The rows of the step after `step` steps."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[place]

    @functools.lru_cache(maxsize=1)  # noqa: B019  as long-lived as the training
    def epoch(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, in their order."""
        size, generator = self.effective_batch_size, torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if not self.group_by_length:
            rows = torch.randperm(len(self.lengths), generator=generator).tolist()
            return [rows[start : start + size] for start in range(0, len(rows), size)]
        rows = get_length_grouped_indices(self.lengths, size, generator=generator)
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        first, last = batches[:1], [batch for batch in batches[1:] if len(batch) < size]
        middle = [batch for batch in batches[1:] if len(batch) == size]
        return first + [middle[place] for place in torch.randperm(len(middle), generator=generator).tolist()] + last


def deal(rows: Sequence[int], lengths: Sequence[int], parts: int) -> list[Batch]:
    """`rows` in `parts` parts of about as many tokens each: the longest first, each to the part that has the fewest.

    A part is in the order of its rows' lengths, so that its micro-batches hold rows of like length. It may be empty.
    """
    dealt: list[Batch] = [[] for _ in range(parts)]
    tokens = [0] * parts
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        part = min(range(parts), key=lambda part: (tokens[part], len(dealt[part])))
        dealt[part].append(row)
        tokens[part] += lengths[row]
    return dealt


def micro_batches(rows: Batch, size: int) -> list[Batch]:
    """`rows` in parts of `size` rows, the last of which may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
