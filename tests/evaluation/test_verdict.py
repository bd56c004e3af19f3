"""The verdict, against scipy and numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from job.evaluation.evaluate import Evaluation, write_csv
from job.evaluation.verdict import bootstrap_intervals, gains, read_verdict, rows_needed


@pytest.fixture
def verdict_of(tmp_path):
    """The verdict on scores of base and adapter, a dict of metrics each, with answers of the given text."""

    def read(base: dict, adapter: dict, *, truth: str = "yes", changed: bool = True, baseline: dict | None = None):
        rows = len(next(iter(base.values())))
        outputs = ["a"] * rows, ["b" if changed else "a"] * rows, ["most"] * rows
        write_csv(Evaluation(["q"] * rows, [truth] * rows, *outputs, base, adapter, baseline or {}), tmp_path / "evaluation.csv")
        return read_verdict(tmp_path / "evaluation.csv")

    return read


def test_a_row_gains_by_a_higher_score_and_by_a_lower_loss():
    rows = [{"base_chrf": "0.25", "adapter_chrf": "0.75", "base_loss": "2.0", "adapter_loss": "3.5"}]
    assert (gains(rows, "chrf"), gains(rows, "loss"), gains([], "chrf")) == ([0.5], [-1.5], [])


def test_the_interval_is_scipys():
    generator = np.random.default_rng(1)
    differences = np.stack([generator.normal(0.1, 1, 200), generator.binomial(1, 0.3, 200) - 0.2], axis=1)
    lows, highs = bootstrap_intervals(differences)
    for place in range(2):
        reference = stats.bootstrap((differences[:, place],), np.mean, n_resamples=100_000, method="percentile", rng=2)
        width = reference.confidence_interval.high - reference.confidence_interval.low
        assert lows[place] == pytest.approx(reference.confidence_interval.low, abs=0.03 * width)
        assert highs[place] == pytest.approx(reference.confidence_interval.high, abs=0.03 * width)
    assert np.array_equal(bootstrap_intervals(differences), (lows, highs)), "the same each time"


def test_nineteen_of_twenty_intervals_hold_the_truth():
    generator, held = np.random.default_rng(3), 0
    differences = generator.normal(0.5, 1, (100, 300))  # 300 experiments of 100 rows
    lows, highs = bootstrap_intervals(differences)
    held = np.mean((lows <= 0.5) & (highs >= 0.5))
    assert 0.90 < held < 0.98


def test_the_rows_needed_are_those_of_a_test_with_four_fifths_power():
    generator = np.random.default_rng(5)
    sample = generator.normal(0.2, 1, 1_000_000)
    needed = rows_needed(sample)
    assert needed == pytest.approx(196, rel=0.03)  # (1.96 + 0.84)^2 / 0.2^2
    found = [stats.ttest_1samp(generator.normal(0.2, 1, needed), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_better_worse_and_no_difference(verdict_of):
    zeros, ones, mixed = [0.0] * 30, [1.0] * 30, [0.0, 1.0] * 15
    assert verdict_of({"exact_match": zeros}, {"exact_match": ones}).word == "better"
    assert verdict_of({"exact_match": ones}, {"exact_match": mixed}).word == "worse"
    assert verdict_of({"exact_match": mixed}, {"exact_match": mixed[::-1]}).word == "no measurable difference"
    assert verdict_of({"loss": ones}, {"loss": zeros}).word == "better", "a loss is better when lower"


def test_an_adapter_that_answers_as_its_base_changes_nothing(verdict_of):
    found = verdict_of({"loss": [1.0] * 30}, {"loss": [0.5] * 30}, changed=False)
    assert found.word == "the adapter changes nothing"
    assert found.warning is None


def test_the_line_says_means_difference_interval_and_the_baseline_answer(verdict_of):
    base, adapter = [0.0] * 30 + [1.0] * 10, [1.0] * 38 + [0.0] * 2
    found = verdict_of(
        {"exact_match": base, "loss": [2.0] * 40},
        {"exact_match": adapter, "loss": [0.5] * 40},
        baseline={"exact_match": [0.25] * 40},
    )
    low, high = 100 * found.headline.low, 100 * found.headline.high
    assert str(found) == (
        f"better on 40 rows: exact match 25.0 % -> 95.0 % (+70.0, 95 % interval {low:+.1f} to {high:+.1f}); "
        'always "most" gives 25.0 %; loss 2.000 -> 0.500'
    )
    assert 50 < low < 65
    assert 80 < high < 88


def test_too_few_rows_are_told_with_how_many_it_takes(verdict_of):
    base = [0.0] * 25 + [1.0] * 25
    adapter = [1.0] * 3 + [0.0] * 22 + [1.0] * 23 + [0.0] * 2  # three better, two worse
    found = verdict_of({"exact_match": base}, {"exact_match": adapter})
    differences = np.array(adapter) - np.array(base)
    needed = np.ceil(7.84 * differences.var(ddof=1) / 0.02**2)
    assert found.word == "no measurable difference"
    assert f"50 held-out rows are too few to tell: a difference like this one takes about {needed:,.0f}." in str(found)
    assert "8 held-out rows are few" in str(verdict_of({"exact_match": [0.0] * 8}, {"exact_match": [1.0] * 8}))


def test_an_adapter_that_is_no_better_than_the_baseline_answer_is_warned_of(verdict_of):
    better = {"exact_match": [1.0] * 28 + [0.0] * 12}
    found = verdict_of({"exact_match": [0.0] * 40}, better, baseline=better)
    assert found.word == "better"
    assert 'It is not better than always "most", which gives 70.0 %' in str(found)
    assert verdict_of({"exact_match": [0.0] * 40}, better, baseline={"exact_match": [0.0] * 40}).warning is None


def test_texts_are_judged_by_rouge_and_values_by_exact_match_and_a_persons_own_metric_comes_first(verdict_of):
    scores = {"exact_match": [0.0] * 30, "rougeL": [0.5] * 30}
    assert verdict_of(scores, scores).headline.metric == "exact_match"
    assert verdict_of(scores, scores, truth="a text of more than five words").headline.metric == "rougeL"
    assert verdict_of(scores | {"own": [3.0] * 30}, scores | {"own": [4.0] * 30}).headline.metric == "own"
