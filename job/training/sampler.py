"""The order of the rows: rows of like length together, a function of seed and epoch alone."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedSampler(Sampler[int]):
    """All rows once an epoch, in batches of like length; the batches in random order, the one with the longest row first.

    Unlike the Trainer's, its order depends on (seed, epoch) only, so a resumed run sees the rows it would have seen.
    """

    def __init__(self, lengths: Sequence[int], effective_batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = list(lengths), effective_batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        indices = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        batches = [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        first, last = batches[:1], [batch for batch in batches[1:] if len(batch) < self.batch_size]
        middle = [batch for batch in batches[1:] if len(batch) == self.batch_size]
        order = torch.randperm(len(middle), generator=generator).tolist()
        return iter([index for batch in first + [middle[place] for place in order] + last for index in batch])
