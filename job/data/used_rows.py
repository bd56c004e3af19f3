"""Which of the prepared rows a run uses: a share of the training rows, and held-out rows that choose or give the verdict."""

from collections.abc import Iterator

import numpy as np
from datasets import Dataset

from job.data.split import digest_keys, take_groups
from job.data.token_lengths import ROWS_AT_ONCE
from job.errors import DataError


def share_of_training(rows: Dataset, fraction: float, seed: int) -> Dataset:
    """That share of the training rows, one at least, in their order; a smaller share is always a part of a larger one."""
    if fraction == 1:
        return rows
    order = np.lexsort(digest_keys(_keys(rows), seed).T[::-1])
    return rows.select(np.sort(order[: max(1, round(fraction * len(rows)))]))


def divide_held_out(rows: Dataset, test_fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """The held-out rows that choose the adapter, and those that give the verdict: the same ones where nothing is divided.

    Rows of the same input are on the same side. Raises DataError where one side would be empty.
    """
    if not test_fraction:
        return rows, rows
    choosing, testing = take_groups(digest_keys(_keys(rows), seed), test_fraction)
    if not len(choosing):
        raise DataError(
            f"TEST_FRACTION={test_fraction}: of {len(rows)} held-out rows none is left to choose the adapter by. Hold out more "
            "(EVAL_FRACTION, EVAL_DATA), or set TEST_FRACTION=0."
        )
    return rows.select(choosing), rows.select(testing)


def _keys(rows: Dataset) -> Iterator[str]:
    """What makes two rows the same question, as far as prepared rows tell."""
    column = "input" if "input" in rows.column_names else "input_ids"
    for batch in rows.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
        yield from map(str, batch[column])
