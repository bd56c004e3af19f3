"""Does more data help? The loss of held-out rows against the number of training rows, and what twice as many would bring."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from job.evaluation.verdict import AT_ONCE, HIGH, LOW, RESAMPLES, SEED

LEAST = 1e-12
"""A loss below counts as this: its logarithm is finite."""


@dataclass(frozen=True)
class LearningCurve:
    """Mean losses at numbers of training rows, ascending, and the power law through them."""

    rows: tuple[int, ...]
    losses: tuple[float, ...]
    exponent: float
    """b of loss = a * rows ** -b."""
    low: float
    high: float
    """Ends of the exponent's 95 % interval."""

    def __str__(self) -> str:
        """What twice the rows would be expected to bring, in one sentence."""
        rows, loss = self.rows[-1], self.losses[-1]
        change, best, least = (100 * (2.0**-exponent - 1) for exponent in (self.exponent, self.high, self.low))
        told = (
            f"{rows:,} -> {2 * rows:,} training rows: the loss of held-out rows {loss:.4g} -> {loss * (1 + change / 100):.4g} "
            f"({_signed(change)} %, 95 % interval {_signed(best)} to {_signed(least)} %)"
        )
        if self.low <= 0:
            return f"Whether more data helps cannot be told. What would be expected of {told}."
        return f"Twice the data would be expected to help, {told}, if it goes on as from {self.rows[0]:,} rows on."


def fit_learning_curve(rows: Sequence[int], losses: np.ndarray) -> LearningCurve:
    """The power law loss = a * rows ** -b, by least squares on the logarithms of mean losses, with the interval of b.

    rows: training rows of each run, ascending, two at least. losses: (runs, held-out rows), of the same held-out rows each.
    The interval is a percentile bootstrap over the held-out rows, the same draws for all runs. So it knows how far other held-out
    rows would tell another story, and not how far another order of training or another law would.
    Hestness et al., Deep Learning Scaling is Predictable, Empirically (2017), for the law.
    """
    count, generator = losses.shape[1], np.random.default_rng(SEED)
    evenly, parts = np.full(count, 1 / count), RESAMPLES // AT_ONCE
    means = np.concatenate([generator.multinomial(count, evenly, size=AT_ONCE) @ losses.T / count for _ in range(parts)])
    low, high = np.percentile(_exponents(rows, means), (LOW, HIGH))
    mean = losses.mean(axis=1)
    return LearningCurve(tuple(rows), tuple(mean.tolist()), float(_exponents(rows, mean[None])[0]), float(low), float(high))


def _exponents(rows: Sequence[int], means: np.ndarray) -> np.ndarray:
    """b of each line of mean losses, (draws, runs): minus the slope of log loss over log rows."""
    logs = np.log(rows) - np.log(rows).mean()
    return -(np.log(np.maximum(means, LEAST)) @ logs) / (logs @ logs)


def _signed(percent: float) -> str:
    return f"{round(percent, 1) + 0.0:+.1f}"
