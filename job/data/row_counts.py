"""Counts over any number of rows at a few bytes a row: texts and tokens are compared by their hashes.

Two inputs are the same where the model sees the same tokens, after the cut; two answers, where exact match takes them for the same.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from job.data.look import Answers, Found, Label, PartCounts
from job.data.token_lengths import ROWS_AT_ONCE

SENTENCE_MARKS = re.compile(r"""[.,;:!?¡¿…"'`´“”„‘’‚«»‹›。，、；：！？「」『』।؟،؛]+(?!\d)""")  # noqa: RUF001
"""But where a digit follows: 3.5 is not 35."""
MOST_LABELS = 50
"""Different answers that may still be labels."""
ROWS_A_LABEL = 4
"""How often each of them occurs at least, on average."""
SHORT = 3
SHOWN_LABELS, SHOWN_LETTERS = 10, 200
FREQUENT = 0.2
"""Share of the rows from which on an answer is shown, however many others there are."""


Hashed = tuple[Dataset, np.ndarray]
"""Rows, and a hash of each."""


@dataclass(frozen=True)
class Hashes:
    """Of the rows of one part: (rows,), int64 each."""

    inputs: np.ndarray
    answers: np.ndarray


def count_part(rows: Dataset, seq2seq: bool) -> tuple[PartCounts, Hashes]:
    """What is counted in the training rows, or in the held-out ones; and their hashes.

    rows: columns `input`, `ground_truth`, `input_ids`, `labels`, and the rows' names in `row` where they have some.
    """
    inputs = np.fromiter(_input_hashes(rows, seq2seq), np.int64, len(rows))
    answers, short, wordless = np.empty(len(rows), np.int64), [], []
    for start, batch in _batches(rows, ["input", "ground_truth"]):
        texts = [(text or "").strip() for text in batch["ground_truth"].to_pylist()]
        answers[start : start + len(texts)] = [hash(text) for text in texts]
        wordless += [start + place for place, text in enumerate(texts) if not any(map(str.isalnum, text))]
        short += [start + place for place, text in enumerate(batch["input"].to_pylist()) if len((text or "").strip()) < SHORT]
    hashes = Hashes(inputs, answers)
    contradictory, repeated, reachable = _compare(rows, hashes)
    counts = PartCounts(len(rows), contradictory, reachable, repeated, _found(rows, short), _found(rows, wordless))
    return counts, hashes


def _compare(rows: Dataset, hashes: Hashes) -> tuple[Found, Found, int]:
    """Contradictory rows, repeated rows, and how many are right when each input has its most frequent answer."""
    order = np.lexsort((hashes.answers, hashes.inputs))  # stable: rows of a pair of input and answer stay in their order
    inputs, answers = hashes.inputs[order], hashes.answers[order]
    new_input = np.r_[True, inputs[1:] != inputs[:-1]]
    pairs = np.flatnonzero(new_input | np.r_[True, answers[1:] != answers[:-1]])
    rows_a_pair, first_rows = np.diff(np.r_[pairs, len(rows)]), order[pairs]
    groups = np.flatnonzero(new_input[pairs])  # pairs with which another input begins
    pairs_a_group = np.diff(np.r_[groups, len(pairs)])
    several = pairs_a_group > 1
    contradictory = np.add.reduceat(rows_a_pair, groups)[several].sum()
    reachable = np.maximum.reduceat(rows_a_pair, groups).sum()
    examples: tuple[str, ...] = ()
    if several.any():
        firsts = np.where(several, np.minimum.reduceat(first_rows, groups), len(rows))
        begin = groups[firsts.argmin()]
        one, other = np.sort(first_rows[begin : begin + pairs_a_group[firsts.argmin()]])[:2]
        examples = (row_name(rows, one), _excerpt(rows, one), row_name(rows, other), _excerpt(rows, other))
    return Found(int(contradictory), examples), _repeated(rows, order, pairs), int(reachable)


def _repeated(rows: Dataset, order: np.ndarray, pairs: np.ndarray) -> Found:
    """Rows that are not the first of their pair. order: rows by pair. pairs: where each begins in it."""
    repeats = np.setdiff1d(np.arange(len(order)), pairs)
    if not len(repeats):
        return Found()
    place = repeats[order[repeats].argmin()]
    earlier = order[pairs[np.searchsorted(pairs, place) - 1]]
    return Found(len(repeats), (row_name(rows, order[place]), row_name(rows, earlier)))


def _input_hashes(rows: Dataset, seq2seq: bool) -> Iterator[int]:
    """A hash of what the model sees of each row before its last answer."""
    for _, batch in _batches(rows, ["input_ids", "labels"]):
        ids, offsets = _flat(batch["input_ids"])
        ends = offsets[1:] if seq2seq else answer_starts(*_flat(batch["labels"]))
        raw, width = ids.tobytes(), ids.itemsize
        for start, end in zip((offsets[:-1] * width).tolist(), (ends * width).tolist(), strict=True):
            yield hash(raw[start:end])


def answer_starts(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where in `labels` the last run of labels that are not -100 begins in each row, its end where there is none: (rows,).

    labels: of all rows, one after the other. offsets: where rows begin and end there, (rows + 1,).
    """
    is_label = np.r_[labels >= 0, False]
    follows = np.r_[False, is_label[:-1]]
    follows[offsets] = False
    begins = np.flatnonzero(is_label & ~follows)
    last = np.r_[-1, begins][np.searchsorted(begins, offsets[1:])]
    return np.where(last >= offsets[:-1], last, offsets[1:])


def count_answers(training: tuple[Dataset, Hashes], held_out: tuple[Dataset, Hashes]) -> Answers:
    """How many different answers there are, and those that are labels."""
    (rows, hashes), (others, other_hashes) = training, held_out
    values, first, counts = np.unique(hashes.answers, return_index=True, return_counts=True)
    are_labels = len(values) <= MOST_LABELS and len(values) * ROWS_A_LABEL <= len(rows)
    order = np.lexsort((first, -counts))
    shown = order[:SHOWN_LABELS] if are_labels else order[:1][counts[order[:1]] >= FREQUENT * len(rows)]
    frequent = [
        Label(_excerpt(rows, first[place]), int(counts[place]), int((other_hashes.answers == values[place]).sum()))
        for place in shown
    ]
    if not are_labels:
        return Answers(len(values), tuple(frequent))
    spellings = defaultdict(list)
    for place in order:
        spellings[normalise(_answer(rows, first[place]))].append(_answer(rows, first[place]))
    alike = [tuple(texts) for text, texts in spellings.items() if text and len(texts) > 1]
    unseen = np.flatnonzero(~np.isin(other_hashes.answers, values))
    names = (row_name(others, unseen[0]), _excerpt(others, unseen[0])) if len(unseen) else ()
    return Answers(len(values), tuple(frequent), tuple(alike), Found(len(unseen), names))


def normalise(text: str) -> str:
    """`text` without what makes no other question of it: case, sentence marks, white space at the ends and in rows."""
    return " ".join(SENTENCE_MARKS.sub(" ", unicodedata.normalize("NFC", text.casefold())).split())


def hash_normalised(texts: Iterable[str], rows: int) -> np.ndarray:
    """A hash of each of so many texts, normalised: (rows,), int64."""
    return np.fromiter((hash(normalise(text)) for text in texts), np.int64, rows)


def find_shared(pairs: Sequence[tuple[Hashed, Hashed]]) -> Found:
    """Held-out rows with a hash that a training row has too; each pair is training rows and held-out ones."""
    names: set[str] = set()
    first: tuple[str, ...] = ()
    for (rows, hashes), (others, other_hashes) in pairs:
        found = np.flatnonzero(np.isin(other_hashes, hashes))
        if len(found) and not first:
            same = int((hashes == other_hashes[found[0]]).argmax())
            first = (row_name(others, found[0]), row_name(rows, same))
        names.update(row_names(others, found))
    return Found(len(names), first)


def row_names(rows: Dataset, indices: np.ndarray) -> list[str]:
    """What a person calls these rows."""
    return list(map(str, rows[indices]["row"])) if "row" in rows.column_names else [f"row {index + 1}" for index in indices]


def row_name(rows: Dataset, index: int | np.integer) -> str:
    """What a person calls a row."""
    return row_names(rows, np.asarray([index]))[0]


def _answer(rows: Dataset, index: int | np.integer) -> str:
    return (rows[int(index)]["ground_truth"] or "").strip()


def _excerpt(rows: Dataset, index: int | np.integer) -> str:
    text = _answer(rows, index)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _found(rows: Dataset, places: list[int]) -> Found:
    return Found(len(places), (row_name(rows, places[0]),) if places else ())


def _batches(rows: Dataset, columns: list[str]) -> Iterator[tuple[int, Any]]:
    """Arrow tables of these columns, each with the number of its first row."""
    batches = rows.select_columns(columns).with_format("arrow").iter(batch_size=ROWS_AT_ONCE)
    return ((number * ROWS_AT_ONCE, batch) for number, batch in enumerate(batches))


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column of lists, one after the other, and where its lists begin and end there."""
    lists = column.combine_chunks()
    offsets = np.asarray(lists.offsets)
    return np.asarray(lists.flatten()), offsets - offsets[0]
