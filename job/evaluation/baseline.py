"""The baseline: answers that need no model, and that a useful adapter beats."""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import median

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from job.data.token_lengths import ROWS_AT_ONCE

SHORT_WORDS, SHORT_LETTERS = 5, 60
"""Answers of up to so many words and letters, in the median, are labels or values; longer ones are texts."""


def are_short(truths: Sequence[str]) -> bool:
    """Whether right answers like these can be expected to be met word for word."""
    words, letters = (median(map(len, parts)) for parts in ([truth.split() for truth in truths], truths))
    return words <= SHORT_WORDS and letters <= SHORT_LETTERS


def baseline_outputs(inputs: Sequence[str], truths: Sequence[str], train: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """For each input the most frequent answer of the training rows; where answers are texts, the input's first sentence."""
    if are_short(truths):
        return [most_frequent_answer(train, tokenizer)] * len(inputs)
    return [re.split(r"(?<=[.!?。])\s", text.strip(), maxsplit=1)[0] for text in inputs]


def most_frequent_answer(train: Dataset, tokenizer: PreTrainedTokenizerBase) -> str:
    """The first of the most frequent answers."""
    counts: Counter = Counter()
    column = "ground_truth" if "ground_truth" in train.column_names else "labels"
    for batch in train.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
        answers = batch[column]
        if column == "labels":  # a causal model's have -100 where its prompt is
            answers = [tuple(label for label in labels if label >= 0) for labels in answers]
        counts.update(answers)
    answer = counts.most_common(1)[0][0]
    return answer if isinstance(answer, str) else tokenizer.decode(answer, skip_special_tokens=True)
