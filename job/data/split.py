"""Training rows and held-out rows: the same on every machine, duplicates on one side."""

import hashlib
from collections import defaultdict

from job.data.read import Table
from job.errors import DataError


def split_rows(keys: list[str], eval_fraction: float, seed: int, table: Table) -> tuple[list[int], list[int]]:
    """Indices of the training rows and of the held-out rows, both ascending.

    keys: one a row; rows of the same key (a duplicate input) go to the same side. The order in which keys are held out
    is that of sha256(seed, key), so it depends on neither the machine nor the order of the rows.
    Raises DataError if one side would be empty.
    """
    groups = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    held_out, wanted = [], max(1, round(len(keys) * eval_fraction))
    for key in sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest()):
        if len(held_out) + len(groups[key]) <= wanted or not held_out:
            held_out += groups[key]
    training = sorted(set(range(len(keys))) - set(held_out))
    if not training:
        raise DataError(
            f"{table.source}: {len(groups)} different rows are too few to hold out EVAL_FRACTION={eval_fraction}. "
            "Add rows, or name held-out ones in EVAL_DATA."
        )
    return training, sorted(held_out)


def check_overlap(train_keys: list[str], eval_keys: list[str], train: Table, evaluation: Table) -> None:
    """Raises DataError if a held-out row is a training row as well: its score would be memory, not skill."""
    places = {key: index for index, key in reversed(list(enumerate(train_keys)))}
    shared = [index for index, key in enumerate(eval_keys) if key in places]
    if shared:
        first = shared[0]
        raise DataError(
            f"{evaluation.source}: {len(shared)} of {len(eval_keys)} rows are training rows too; the first is "
            f"{evaluation.row_name(first)}, which is {train.row_name(places[eval_keys[first]])} of {train.source}. "
            "Take them out of one of the two."
        )
