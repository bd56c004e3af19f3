"""Scores against the libraries' own references and against sums by hand."""

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_chrf

from job.errors import SettingsError
from job.evaluation.metrics import METRICS, CustomMetric, check_custom_metric, check_metrics, exact_match, score, token_f1

OUTPUTS = ["the cat sat", "", "A dog\nbarks loudly", "x"]
TRUTHS = ["the cat sat down", "nothing", "a dog barks\nvery loudly", "x "]


def test_exact_match_looks_past_white_space_at_the_ends_only():
    assert [exact_match(*pair) for pair in (("a b", " a b\n"), ("a  b", "a b"), ("A", "a"), ("", ""))] == [1, 0, 0, 1]


def test_token_f1_by_hand():
    assert token_f1("the cat sat", "the cat ran away") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert token_f1("a a b", "a c") == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert (token_f1("", "a"), token_f1("", ""), token_f1("A", "a")) == (0, 1, 1)


def test_rouge_is_the_librarys():
    scores = score(OUTPUTS, TRUTHS, METRICS, None)
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        scorer = RougeScorer([name], use_stemmer=True)
        assert scores[name] == [scorer.score(truth, output)[name].fmeasure for output, truth in zip(OUTPUTS, TRUTHS, strict=True)]


def test_chrf_is_sacrebleus():
    scores = score(OUTPUTS, TRUTHS, ("chrf",), None)
    assert scores["chrf"] == pytest.approx(
        [sentence_chrf(output, [truth]).score / 100 for output, truth in zip(OUTPUTS, TRUTHS, strict=True)]
    )


def test_only_what_was_asked_for_is_measured():
    assert list(score(OUTPUTS, TRUTHS, ("token_f1",), CustomMetric("own.py:length", lambda output, truth: len(output)))) == [
        "token_f1",
        "length",
    ]


def test_an_unknown_metric_names_those_that_exist():
    with pytest.raises(SettingsError, match="exact_match, token_f1"):
        check_metrics(("bleu",))


@pytest.mark.parametrize("name", ["exact_match", "output", "eval_mine", "loss"])
def test_a_persons_metric_may_not_take_a_name_that_is_taken(name):
    with pytest.raises(SettingsError, match=f"METRIC=my.py:{name}: the name {name} is taken"):
        check_custom_metric(CustomMetric(f"my.py:{name}", lambda output, truth: 1.0))
