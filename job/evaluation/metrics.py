"""Scores of outputs against right answers, a row at a time; 1 is best, 0 is worst, except for loss."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from job.errors import SettingsError
from job.system.user_function import describe

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
METRICS = ("exact_match", "token_f1", *ROUGE, "chrf", "loss")
LOWER_IS_BETTER = ("loss",)

Scores = dict[str, list[float]]
"""Name of the metric -> its score a row."""


def check_metrics(names: Sequence[str]) -> None:
    """Raises SettingsError for a name that is no metric."""
    if unknown := next((name for name in names if name not in METRICS), None):
        raise SettingsError(f'METRICS: no metric is named "{unknown}"; there are {", ".join(METRICS)}. For your own set METRIC.')


def check_best(name: str, own: tuple[str, Callable] | None) -> None:
    """Raises SettingsError for a name that is neither a metric nor that of a person's own."""
    names = (*METRICS, *([own_name(own)] if own else []))
    if name not in names:
        raise SettingsError(f'METRIC_FOR_BEST_MODEL: no metric is named "{name}"; there are {", ".join(names)}. Set one of them.')


def check_own(own: tuple[str, Callable]) -> None:
    """Raises SettingsError for a person's metric that is named like one of ours, or like something else that is written."""
    name = own_name(own)
    if name in METRICS or name == "output" or name.startswith("eval_"):
        raise SettingsError(f"METRIC={own[0]}: the name {name} is taken. Give the function another name.")


def own_name(own: tuple[str, Callable]) -> str:
    """What a person's metric is called: its function's name."""
    return own[0].rpartition(":")[2]


def score(outputs: Sequence[str], truths: Sequence[str], names: Sequence[str], own: tuple[str, Callable] | None) -> Scores:
    """Scores of each output against the right answer in the same place, for all of `names` but the loss.

    own: name and function of a person's metric. Raises SettingsError if that function fails.
    """
    scorer = RougeScorer([name for name in names if name in ROUGE], use_stemmer=True)
    rouge = [scorer.score(truth, output) for output, truth in zip(outputs, truths, strict=True)]
    scores: Scores = {}
    for name in names:
        if name in ROUGE:
            scores[name] = [row[name].fmeasure for row in rouge]
        elif name != "loss":
            scores[name] = [ROW_METRICS[name](output, truth) for output, truth in zip(outputs, truths, strict=True)]
    if own:
        scores[own_name(own)] = score_own(outputs, truths, own)
    return scores


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


def score_own(outputs: Sequence[str], truths: Sequence[str], own: tuple[str, Callable]) -> list[float]:
    """Scores by a person's function. Raises SettingsError naming the row on which it raises or returns no finite number."""
    spec, function = own
    scores = []
    for number, (output, truth) in enumerate(zip(outputs, truths, strict=True), 1):
        try:
            value = float(function(output, truth))
        except (Exception, SystemExit) as error:
            raise SettingsError(f"METRIC={spec} raised {describe(error)} on held-out row {number}. Mend the function.") from error
        if not math.isfinite(value):
            raise SettingsError(f"METRIC={spec} returned {value} on held-out row {number}; a finite number was expected.")
        scores.append(value)
    return scores
