"""Scores of outputs against right answers, a row at a time; 1 is best, 0 is worst, except for loss."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.metrics import CHRF

from job.errors import SettingsError
from job.system.user_function import own_errors

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
METRICS = ("exact_match", "token_f1", *ROUGE, "chrf", "loss")
LOWER_IS_BETTER = ("loss",)

Scores = dict[str, list[float]]
"""Name of the metric -> its score a row."""


@dataclass(frozen=True)
class CustomMetric:
    """A person's own score."""

    spec: str
    """The value of METRIC: file.py:function."""
    function: Callable[[str, str], float]
    """Takes an output and the right answer."""

    @property
    def name(self) -> str:
        return self.spec.rpartition(":")[2]


def check_metrics(names: Sequence[str]) -> None:
    """Raises SettingsError for a name that is not a metric."""
    if unknown := next((name for name in names if name not in METRICS), None):
        raise SettingsError(f'METRICS: no metric is named "{unknown}"; there are {", ".join(METRICS)}. For your own set METRIC.')


def check_best_metric(name: str, custom_metric: CustomMetric | None) -> None:
    """Raises SettingsError for a name that is neither a metric nor that of a person's own."""
    names = (*METRICS, *([custom_metric.name] if custom_metric else []))
    if name not in names:
        raise SettingsError(f'METRIC_FOR_BEST_MODEL: no metric is named "{name}"; there are {", ".join(names)}. Set one of them.')


def check_custom_metric(custom_metric: CustomMetric) -> None:
    """Raises SettingsError for a person's metric that is named like one of ours, or like something else that is written."""
    name = custom_metric.name
    if name in METRICS or name == "output" or name.startswith("eval_"):
        raise SettingsError(f"METRIC={custom_metric.spec}: the name {name} is taken. Give the function another name.")


def score(outputs: Sequence[str], truths: Sequence[str], names: Sequence[str], custom_metric: CustomMetric | None) -> Scores:
    """Scores of each output against the right answer in the same place, for all of `names` but the loss.

    Raises SettingsError if a person's own metric fails.
    """
    scores: Scores = {}
    rouge = rouge_scores(outputs, truths, [name for name in names if name in ROUGE])
    for name in names:
        if name in ROUGE:
            scores[name] = [row[name].fmeasure for row in rouge]
        elif name != "loss":
            scores[name] = [ROW_METRICS[name](output, truth) for output, truth in zip(outputs, truths, strict=True)]
    if custom_metric:
        scores[custom_metric.name] = score_custom_metric(outputs, truths, custom_metric)
    return scores


def rouge_scores(outputs: Sequence[str], truths: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Each output's scores of these names (rouge-score, with stems), each with a `fmeasure` from 0 to 1."""
    if not names:
        return []
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  its nltk takes a second to load, which no step waits for

    scorer = RougeScorer(list(names), use_stemmer=True)
    return [scorer.score(truth, output) for output, truth in zip(outputs, truths, strict=True)]


def exact_match(output: str, truth: str) -> float:
    """1 if both are the same but for white space around them."""
    return float(output.strip() == truth.strip())


def token_f1(output: str, truth: str) -> float:
    """Harmonic mean of precision and recall over words, as SQuAD has it, lower case."""
    found, wanted = output.lower().split(), truth.lower().split()
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted)) if found and wanted else float(found == wanted)


def chrf(output: str, truth: str) -> float:
    """chrF2 of one sentence (sacrebleu), from 0 to 1."""
    return CHRF_SCORER.sentence_score(output, [truth]).score / 100


CHRF_SCORER = CHRF()
ROW_METRICS = {"exact_match": exact_match, "token_f1": token_f1, "chrf": chrf}


def score_custom_metric(outputs: Sequence[str], truths: Sequence[str], custom_metric: CustomMetric) -> list[float]:
    """Scores by a person's function. Raises SettingsError naming the row on which it raises or returns no finite number."""
    scores = []
    for number, (output, truth) in enumerate(zip(outputs, truths, strict=True), 1):
        with own_errors(f"METRIC={custom_metric.spec}", f" on held-out row {number}. Fix the function."):
            value = float(custom_metric.function(output, truth))
        if not math.isfinite(value):
            raise SettingsError(
                f"METRIC={custom_metric.spec} returned {value} on held-out row {number}; a finite number was expected."
            )
        scores.append(value)
    return scores
