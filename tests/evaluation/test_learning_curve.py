"""What twice the rows would bring: a law that is known is found again, and noise is not taken for one."""

import numpy as np
import pytest
from scipy import stats

from job.evaluation.learning_curve import fit_learning_curve

ROWS = [100, 300, 1000]


def losses_of(exponent: float, noise: float, held_out: int = 200) -> np.ndarray:
    """(runs, held-out rows): rows of different difficulty, whose mean follows loss = 3 * rows ** -exponent."""
    generator = np.random.default_rng(1)
    difficulty = generator.gamma(2, 1, held_out)
    difficulty /= difficulty.mean()
    lines = [3 * count**-exponent * difficulty * np.exp(noise * generator.standard_normal(held_out)) for count in ROWS]
    return np.array(lines)


def test_the_exponent_of_a_power_law_is_found():
    curve = fit_learning_curve(ROWS, losses_of(0.35, noise=0))
    assert curve.exponent == pytest.approx(0.35)
    assert (curve.low, curve.high) == pytest.approx((0.35, 0.35)), "each draw of rows has the same law"
    assert curve.losses[-1] == pytest.approx(3 * 1000**-0.35)


def test_the_fit_is_the_regression_of_the_logarithms():
    losses = losses_of(0.2, noise=0.5)
    reference = stats.linregress(np.log(ROWS), np.log(losses.mean(1))).slope
    assert fit_learning_curve(ROWS, losses).exponent == pytest.approx(-reference)


def test_the_interval_is_about_as_wide_as_exponents_of_other_rows_differ():
    found = fit_learning_curve(ROWS, losses_of(0.2, noise=0.8))
    generator = np.random.default_rng(2)
    others = []
    for _ in range(400):
        drawn = np.array([3 * count**-0.2 * np.exp(0.8 * generator.standard_normal(200) - 0.32) for count in ROWS])
        others.append(-stats.linregress(np.log(ROWS), np.log(drawn.mean(1))).slope)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(others), rel=0.3)


def test_the_sentence_says_what_twice_the_rows_bring():
    text = str(fit_learning_curve(ROWS, losses_of(1.0, noise=0)))
    assert text == (
        "Twice the data would be expected to help, 1,000 -> 2,000 training rows: the loss of held-out rows 0.003 -> 0.0015 "
        "(-50.0 %, 95 % interval -50.0 to -50.0 %), if it goes on as from 100 rows on."
    )


def test_where_the_interval_holds_nothing_the_sentence_says_so():
    curve = fit_learning_curve(ROWS, losses_of(0.0, noise=1.0))
    assert curve.low < 0 < curve.high
    assert str(curve).startswith("Whether more data helps cannot be told. What would be expected of 1,000 -> 2,000 training rows")
