"""Did it help? What `evaluation.csv` says, and how sure one can be of it."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from job.evaluation.baseline import are_short
from job.evaluation.evaluate import read_csv
from job.evaluation.metrics import LOWER_IS_BETTER, METRICS

RESAMPLES, SEED, AT_ONCE = 10_000, 0, 500
LOW, HIGH = 2.5, 97.5
"""Percentiles: what lies between is the 95 % interval."""
FEW_ROWS = 20
"""With fewer, the bootstrap takes itself for surer than it is."""
SHOWN_LETTERS = 40
NOTHING, SAME = "the adapter changes nothing", "no measurable difference"
TEXTS_FIRST = ("rougeL", "token_f1", "chrf", "rouge1", "exact_match", "loss")
VALUES_FIRST = ("exact_match", "token_f1", "chrf", "rougeL", "rouge1", "loss")


@dataclass(frozen=True)
class MetricComparison:
    """One metric: means over the held-out rows, and the difference adapter - base with its 95 % interval."""

    metric: str
    base: float
    adapter: float
    baseline: float | None
    """Of the baseline; None where there is none, as for the loss."""
    difference: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """ "better", "worse" or "no measurable difference"."""
        if self.low <= 0 <= self.high:
            return SAME
        return "better" if (self.difference > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Verdict:
    """What a run was good for."""

    rows: int
    word: str
    headline: MetricComparison
    """The metric that `word` is about: a person's own, else exact match for short answers and ROUGE-L for texts."""
    compared: tuple[MetricComparison, ...]
    baseline: str | None
    """What the baseline is, in words."""
    warning: str | None
    """Why `word` may not be trusted, and what to do."""

    def __str__(self) -> str:
        """One line for a person."""
        text = f"{self.word} on {self.rows} rows: {describe(self.headline)}"
        if self.headline.baseline is not None:
            text += f"; {self.baseline} gives {number(self.headline.metric, self.headline.baseline)}"
        others = [f"{name(one.metric)} {pair(one)}" for one in self.compared if one.metric != self.headline.metric]
        text += f"; {', '.join(others)}" if others else ""
        return f"{text}. {self.warning}" if self.warning else text


def read_verdict(path: Path) -> Verdict:
    """The verdict of an `evaluation.csv`."""
    rows = read_csv(path)
    metrics, adapter = read_scores(rows, "adapter")
    _, base = read_scores(rows, "base")
    lows, highs = bootstrap_intervals(adapter - base)
    compared = []
    for place, metric in enumerate(metrics):
        column = f"baseline_{metric}"
        baseline = float(np.mean([float(row[column]) for row in rows])) if column in rows[0] else None
        means = float(base[:, place].mean()), float(adapter[:, place].mean())
        compared.append(MetricComparison(metric, *means, baseline, means[1] - means[0], float(lows[place]), float(highs[place])))
    headline = _headline(compared, [row["ground_truth"] for row in rows])
    changed = any(row["base_output"] != row["adapter_output"] for row in rows)
    place = compared.index(headline)
    warning = _warning(headline, (adapter - base)[:, place]) or _no_better_than_baseline(headline, rows) if changed else None
    return Verdict(len(rows), headline.word if changed else NOTHING, headline, tuple(compared), _baseline_name(rows), warning)


def read_scores(rows: Sequence[dict[str, str]], side: str) -> tuple[list[str], np.ndarray]:
    """The metrics of an `evaluation.csv`, and the scores of a side ("base", "adapter"): (rows, metrics)."""
    metrics = [name.removeprefix(f"{side}_") for name in rows[0] if name.startswith(f"{side}_") and name != f"{side}_output"]
    return metrics, np.array([[float(row[f"{side}_{metric}"]) for metric in metrics] for row in rows])


def bootstrap_intervals(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % intervals of means, of paired differences above all, by the percentile bootstrap; always the same draws.

    differences: (rows, metrics); both results: (metrics,). Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    rows, generator = len(differences), np.random.default_rng(SEED)
    evenly, parts = np.full(rows, 1 / rows), RESAMPLES // AT_ONCE
    means = np.concatenate([generator.multinomial(rows, evenly, size=AT_ONCE) @ differences / rows for _ in range(parts)])
    return tuple(np.percentile(means, (LOW, HIGH), axis=0))


def rows_needed(differences: np.ndarray) -> int | None:
    """Rows that it takes to detect a difference like the mean of these in four cases out of five; None if there is no difference.

    (1.96 + 0.84)^2 (deviation / mean)^2: a two-sided test at 5 % with a power of 80 %.
    """
    mean = differences.mean()
    return math.ceil((1.96 + 0.84) ** 2 * differences.var(ddof=1) / mean**2) if mean and len(differences) > 1 else None


def _warning(headline: MetricComparison, differences: np.ndarray) -> str | None:
    rows, needed = len(differences), rows_needed(differences)
    if headline.word == SAME and needed and needed > rows:
        return f"{rows} held-out rows are too few to tell: a difference like this one takes about {needed:,}. Hold out more."
    if rows < FEW_ROWS:
        return f"{rows} held-out rows are few: the interval is wider than it looks. Hold out {FEW_ROWS} or more."
    return None


def _no_better_than_baseline(headline: MetricComparison, rows: list[dict[str, str]]) -> str | None:
    """Against the baseline, row by row: an adapter that is no better may have learned nothing else."""
    column = f"baseline_{headline.metric}"
    if column not in rows[0] or headline.baseline is None:
        return None
    gained = np.array([[float(row[f"adapter_{headline.metric}"]) - float(row[column])] for row in rows])
    if bootstrap_intervals(gained)[0][0] > 0:
        return None
    given = number(headline.metric, headline.baseline)
    if (gained.mean() > 0) != (headline.metric in LOWER_IS_BETTER) and gained.mean():
        return (
            f"It is not measurably better than {_baseline_name(rows)}, which gives {given}: {len(rows)} rows are too few to tell."
        )
    return f"It is not better than {_baseline_name(rows)}, which gives {given}: see whether it learned anything else."


def _headline(compared: list[MetricComparison], truths: list[str]) -> MetricComparison:
    by_name = {one.metric: one for one in compared}
    if custom := next((one for one in compared if one.metric not in METRICS), None):
        return custom
    order = VALUES_FIRST if are_short(truths) else TEXTS_FIRST
    return next((by_name[metric] for metric in order if metric in by_name), compared[0])


def _baseline_name(rows: list[dict[str, str]]) -> str | None:
    if "baseline_output" not in rows[0]:
        return None
    if not are_short([row["ground_truth"] for row in rows]):
        return "the input's first sentence"
    return f'always "{textwrap.shorten(rows[0]["baseline_output"], SHOWN_LETTERS)}"'


def describe(one: MetricComparison) -> str:
    """A metric with both means, the difference and its interval."""
    unit = ", lower is better" if one.metric in LOWER_IS_BETTER else ""
    ends = [signed(one.metric, value) for value in (one.difference, one.low, one.high)]
    return f"{name(one.metric)} {pair(one)} ({ends[0]}, 95 % interval {ends[1]} to {ends[2]}{unit})"


def pair(one: MetricComparison) -> str:
    """Both means: "2.5 % -> 93.3 %"."""
    return f"{number(one.metric, one.base)} -> {number(one.metric, one.adapter)}"


def gains(rows: Sequence[dict[str, str]], metric: str) -> list[float]:
    """By how much the adapter is better than the base, for each row of an `evaluation.csv`."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return [sign * (float(row[f"adapter_{metric}"]) - float(row[f"base_{metric}"])) for row in rows]


def name(metric: str) -> str:
    """A metric as a person reads it."""
    return metric.replace("_", " ")


def number(metric: str, value: float) -> str:
    """A score: in per cent for those between 0 and 1."""
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.3f}"


def signed(metric: str, value: float) -> str:
    """A difference of scores, in points for those that are shown in per cent."""
    return f"{100 * value:+.1f}" if is_share(metric) else f"{value:+.3f}"


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1."""
    return metric in METRICS and metric not in LOWER_IS_BETTER
