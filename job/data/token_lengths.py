"""How long tokenised rows are, without making lists of them."""

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from job.tables.file_rows import ROWS_AT_ONCE


def token_lengths(rows: Dataset, column: str) -> np.ndarray:
    """How many tokens each row has in a column of lists: (rows,), int64; read off Arrow's offsets."""
    batches = rows.select_columns([column]).with_format("arrow").iter(batch_size=ROWS_AT_ONCE)
    return np.concatenate([pc.list_value_length(batch[column]).to_numpy() for batch in batches] or [[]]).astype(np.int64)


def answer_lengths(rows: Dataset) -> np.ndarray:
    """How many of the `labels` of each row are an answer's, not the -100 of a causal model's prompt: (rows,), int64."""
    batches = rows.select_columns(["labels"]).with_format("arrow").iter(batch_size=ROWS_AT_ONCE)
    counted = []
    for batch in batches:
        lists = batch["labels"].combine_chunks()
        ends = np.cumsum(np.concatenate([[0], np.asarray(lists.flatten()) >= 0]))
        offsets = np.asarray(lists.offsets) - np.asarray(lists.offsets)[0]
        counted.append(ends[offsets[1:]] - ends[offsets[:-1]])
    return np.concatenate(counted or [[]]).astype(np.int64)


def expand_counts(counts: Mapping[str, int]) -> np.ndarray:
    """The lengths that were counted, each as often as it was: (rows,), int64."""
    return np.repeat([int(length) for length in counts], list(counts.values()))
