"""Training rows and held-out rows: the same on every machine, duplicates on one side."""

import hashlib
import logging
from collections.abc import Iterable

import numpy as np

from job.errors import DataError
from job.tables.table import Table

log = logging.getLogger(__name__)


def digest_keys(keys: Iterable[str], seed: int) -> np.ndarray:
    """sha256(seed, key) of each key, (rows, 4) big-endian 64 bit words: 32 bytes a row, however long the keys are."""
    digests = b"".join(hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in keys)
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 4)


def split_rows(digests: np.ndarray, eval_fraction: float, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training rows and of the held-out rows, both ascending.

    digests: of `digest_keys`; rows of the same key (a duplicate input) go to the same side. The order in which keys are held out
    is that of their digests, so it depends on neither the machine nor the order of the rows.
    Raises DataError if one side would be empty.
    """
    training, held_out = take_groups(digests, eval_fraction)
    if not len(training):
        groups = len(np.unique(digests, axis=0))
        raise DataError(
            f"{table.source}: {groups} different {'rows are' if groups > 1 else 'row is'} too few to hold out "
            f"EVAL_FRACTION={eval_fraction}. Add rows, or name held-out ones in EVAL_DATA."
        )
    return training, held_out


def take_groups(digests: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows that stay, and of about that share of them that is taken, one at least; both ascending.

    digests: of `digest_keys`. Rows of the same key go to the same side.
    """
    order = np.lexsort(digests.T[::-1])
    first = np.r_[True, (digests[order][1:] != digests[order][:-1]).any(1)]
    taken: list[int] = []
    wanted = max(1, round(len(digests) * fraction))
    for group in np.split(order, np.flatnonzero(first)[1:]):
        if len(taken) + len(group) <= wanted or not taken:
            taken += group.tolist()
        if len(taken) >= wanted:
            break
    return np.setdiff1d(np.arange(len(digests)), taken), np.sort(taken)


def own_held_out(train: Table, target: str) -> Table | None:
    """The rows that `train` holds apart; None, with a warning, where they have no answers, as the test rows of a competition.

    target: the column of the answers.
    """
    held_out = train.held_out
    if held_out is None or len(held_out.rows) == 0:
        return None
    is_there = target in held_out.rows.column_names
    if target in train.rows.column_names and (not is_there or all(cell in (None, "") for cell in held_out.cells(target))):
        log.warning(
            '%s: %s and the other rows that are held apart have no "%s": EVAL_FRACTION of the training rows is held out instead',
            train.source,
            held_out.row_name(0),
            target,
        )
        return None
    return held_out


def check_overlap(train_digests: np.ndarray, eval_digests: np.ndarray, train: Table, evaluation: Table) -> None:
    """Raises DataError if a held-out row is a training row as well: its score would be memory, not skill."""
    places = {digest.tobytes(): index for index, digest in reversed(list(enumerate(train_digests)))}
    shared = [index for index, digest in enumerate(eval_digests) if digest.tobytes() in places]
    if shared:
        first = shared[0]
        raise DataError(
            f"{evaluation.source}: {len(shared)} of {len(eval_digests)} rows are training rows too; the first is "
            f"{evaluation.row_name(first)}, which is {train.row_name(places[eval_digests[first].tobytes()])} of {train.source}. "
            "Take them out of one of the two."
        )
