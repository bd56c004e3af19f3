"""How answers are generated and scored, and a person's own metric, tried before it is needed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset

from job.config.scoring import make_scoring
from job.config.settings import Settings
from job.errors import SettingsError
from job.evaluation.generate import Decoding

COUNTED = """
from pathlib import Path
def note(what):
    with Path("calls.txt").open("a") as file: file.write(what + "\\n")
note("executed")
def longer(output, truth):
    note(f"called with {output}, {truth}")
    return len(output) - len(truth)
"""


def prepared(*answers: int, prompt: int = 0, texts: bool = True) -> SimpleNamespace:
    """Prepared data whose held-out rows have answers of so many tokens, after `prompt` ones that are no answer's."""
    columns = {"labels": [[-100] * prompt + [7] * count for count in answers]}
    if texts:
        columns["ground_truth"] = [f"answer {number}" for number in range(len(answers))]
    return SimpleNamespace(evaluation=Dataset.from_dict(columns))


@pytest.mark.parametrize(("answers", "most"), [((1,), 2), ((3, 4), 6), ((8, 2, 5), 11), ((100, 40), 126)])
@pytest.mark.parametrize("prompt", [0, 50])
def test_an_answer_may_be_a_quarter_longer_than_the_longest_right_one(answers, most, prompt):
    found = make_scoring(Settings(), prepared(*answers, prompt=prompt))
    assert found.decoding == Decoding(1, most, 1)


def test_what_was_set_is_obeyed():
    found = make_scoring(Settings(max_new_tokens=3, num_beams=4, metrics="chrf,loss"), prepared(9))
    assert (found.decoding, found.metrics, found.custom_metric) == (Decoding(1, 3, 4), ("chrf", "loss"), None)


def test_a_persons_metric_is_executed_once_and_tried_on_the_first_row():
    Path("own.py").write_text(COUNTED)
    found = make_scoring(Settings(metric="own.py:longer"), prepared(2, 3))
    assert Path("calls.txt").read_text().splitlines() == ["executed", "called with answer 0, answer 0"]
    assert (found.custom_metric.name, found.custom_metric.function("abc", "a")) == ("longer", 2)


def test_rows_that_came_tokenised_have_no_text_to_try_it_on():
    Path("own.py").write_text(COUNTED)
    make_scoring(Settings(metric="own.py:longer"), prepared(2, texts=False))
    assert Path("calls.txt").read_text().splitlines() == ["executed"]


def test_a_metric_that_fails_is_told_before_training():
    Path("own.py").write_text("def fail(output, truth):\n    return output.nothing\n")
    with pytest.raises(SettingsError, match=r"METRIC=own.py:fail raised AttributeError.* on held-out row 1"):
        make_scoring(Settings(metric="own.py:fail"), prepared(2))


@pytest.mark.parametrize("name", ["exact_match", "loss", "output", "eval_x"])
def test_a_name_that_is_taken_is_refused(name):
    Path("own.py").write_text(f"def {name}(output, truth):\n    return 1\n")
    with pytest.raises(SettingsError, match=f"the name {name} is taken"):
        make_scoring(Settings(metric=f"own.py:{name}"), prepared(2))


def test_the_best_model_may_be_chosen_by_a_persons_metric_and_by_none_that_is_not_there():
    Path("own.py").write_text("def mine(output, truth):\n    return 1\n")
    make_scoring(Settings(metric="own.py:mine", metric_for_best_model="mine"), prepared(2))
    with pytest.raises(SettingsError, match='METRIC_FOR_BEST_MODEL: no metric is named "mine"'):
        make_scoring(Settings(metric_for_best_model="mine"), prepared(2))


def test_an_unknown_metric_is_told_before_a_persons_file_is_executed():
    Path("own.py").write_text(COUNTED)
    with pytest.raises(SettingsError, match='METRICS: no metric is named "bleurt"'):
        make_scoring(Settings(metrics="bleurt", metric="own.py:longer"), prepared(2))
    assert not Path("calls.txt").exists()
