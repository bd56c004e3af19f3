"""What a person watches: curves, and answers to the same rows after each evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from job.evaluation.generate import Decoding, generate
from job.evaluation.metrics import CustomMetric
from job.pipeline import monitor as module
from job.pipeline.monitor import answer_scorer, make_curves, make_trackers, scores_answers
from job.pipeline.records import StatusRecord
from job.system.signals import stop_signals
from job.training.supervision import EvaluationStopped


class Shown:
    """Curves that note what they show."""

    def __init__(self) -> None:
        self.tables: dict[int, list] = {}

    def show(self, answers, step: int) -> None:
        self.tables[step] = answers


def changed(context, **changes):
    """The context with other settings."""
    return replace(context, settings=context.settings.model_copy(update=changes))


def test_the_curves_have_the_lengths_of_the_training_rows_and_the_runs_variables(context, tokenizer):
    curves = make_curves(context)
    lengths = [len(tokenizer(f"Input: {text}").input_ids) for text in context.prepared.train["input"]]
    assert sorted(curves.lengths["input"]) == sorted(lengths)
    assert sorted(curves.lengths["answer"]) == sorted(map(len, context.prepared.train["labels"]))
    assert curves.folder == Path("logs/r")
    assert (curves.settings["MAX_STEPS"], curves.has_score) == ("4", False)


def test_rows_that_came_tokenised_have_lengths_too(context):
    tokenised = replace(context, prepared=replace(context.prepared, source_lengths={}, target_lengths={}))
    curves = make_curves(tokenised)
    assert np.array_equal(curves.lengths["input"], list(map(len, context.prepared.train["input_ids"])))
    assert np.array_equal(curves.lengths["answer"], list(map(len, context.prepared.train["labels"])))


def test_no_secret_is_in_the_curves(context):
    from pydantic import SecretStr

    curves = make_curves(changed(context, hf_token=SecretStr("hf_topsecret")))
    assert "topsecret" not in str(curves.settings)
    assert "HF_TOKEN" not in curves.settings


@pytest.mark.parametrize("trackers", [("none",), (), ("wandb",)])
def test_where_tensorboard_is_not_wanted_there_are_no_curves(context, trackers):
    assert make_curves(changed(context, report_to=trackers)) is None


@pytest.mark.parametrize(
    ("trackers", "expected"),
    [(("tensorboard",), []), (("none",), []), ((), []), (("tensorboard", "wandb", "mlflow"), ["wandb", "mlflow"])],
)
def test_curves_are_the_jobs_own_and_other_trackers_the_librarys(context, trackers, expected):
    made = make_trackers(changed(context, report_to=trackers))
    assert [tracker.kind for tracker in made] == [LOGGER_TYPE_TO_CLASS[name] for name in expected]
    assert all((tracker.run_name, tracker.folder) == ("r", Path("logs/r")) for tracker in made)


def test_no_secret_reaches_a_tracker_and_numbers_stay_numbers(context):
    from pydantic import SecretStr

    (tracker,) = make_trackers(changed(context, hf_token=SecretStr("hf_topsecret"), report_to=("wandb",)))
    assert "topsecret" not in str(tracker.settings)
    assert (tracker.settings["MAX_STEPS"], tracker.settings["LEARNING_RATE"]) == (4, 0.001)


def test_without_tensorboard_there_are_no_event_files(run_job, t5_folder, write_rows, questions):
    asked = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "MAX_STEPS": 1, "EVAL_STRATEGY": "no", "RUN_NAME": "r"}
    assert run_job("train", REPORT_TO="none", **asked)[0] == 0
    assert not list(Path("logs/r").glob("events*"))


@pytest.mark.parametrize(
    ("asked", "scored"),
    [
        ({}, False),
        ({"metric_for_best_model": "chrf"}, True),
        ({"metric_for_best_model": "chrf", "load_best_model_at_end": False}, False),
    ],
)
def test_answers_are_scored_where_a_score_chooses_the_best_model(context, asked, scored):
    assert scores_answers(changed(context, **asked)) is scored
    assert make_curves(changed(context, **asked)).has_score is scored


def test_the_first_rows_are_shown_each_time_with_what_the_model_answers(context, model):
    curves = Shown()
    score = answer_scorer(changed(context, eval_samples=3), model, curves)
    assert (score(2), score(4)) == ({}, {})
    rows = context.prepared.evaluation
    answers = generate(model, context.tokenizer, rows["input_ids"][:3], Decoding(1, 8, 1))
    expected = list(zip(rows["input"][:3], rows["ground_truth"][:3], answers, strict=True))
    assert curves.tables == {2: expected, 4: expected}


def test_more_rows_than_there_are_are_all_of_them(context, model):
    curves = Shown()
    answer_scorer(changed(context, eval_samples=100), model, curves)(1)
    assert len(curves.tables[1]) == 8


@pytest.mark.parametrize(
    ("asked", "curves"), [({"eval_samples": 0}, Shown()), ({"eval_samples": 5, "report_to": ("none",)}, None)]
)  # curves are of rank 0 alone, but each rank answers its share for them
def test_nothing_is_answered_where_nobody_looks(context, model, monkeypatch, asked, curves):
    monkeypatch.setattr(module, "generate", lambda *_: pytest.fail("rows were answered"))
    assert answer_scorer(changed(context, **asked), model, curves)(1) == {}


@pytest.mark.parametrize(("most", "rows"), [(1000, 8), (5, 5)])
@pytest.mark.parametrize("samples", [0, 2])
def test_the_score_is_the_mean_over_all_rows_however_many_are_shown(context, model, monkeypatch, most, rows, samples):
    """Every second answer is right: so is the share of exact matches."""
    truths = context.prepared.evaluation["ground_truth"][:rows]
    inputs = context.prepared.evaluation["input_ids"][:rows]
    outputs = {tuple(ids): truths[place] if place % 2 == 0 else "wrong" for place, ids in enumerate(inputs)}
    monkeypatch.setattr(
        module, "generate", lambda model, tokenizer, prompts, decoding: [outputs[tuple(prompt)] for prompt in prompts]
    )
    curves = Shown()
    asked = changed(context, metric_for_best_model="exact_match", eval_max_rows=most, eval_samples=samples)
    assert answer_scorer(asked, model, curves)(7) == {"exact_match": pytest.approx((rows + 1) // 2 / rows)}
    assert [len(table) for table in curves.tables.values()] == ([samples] if samples else [])


def test_a_persons_own_metric_may_be_the_score(context, model, monkeypatch):
    monkeypatch.setattr(module, "generate", lambda model, tokenizer, prompts, decoding: ["abc"] * len(prompts))
    custom = CustomMetric("own.py:length", lambda output, truth: len(output) - len(truth))
    asked = replace(changed(context, metric_for_best_model="length"), scoring=replace(context.scoring, custom_metric=custom))
    assert answer_scorer(asked, model, None)(1) == {"length": 3 - len("05-01")}


def test_progress_is_that_of_the_training_and_a_stop_leaves_the_evaluation(context, model, monkeypatch):
    monkeypatch.setattr(stop_signals, "received", None)
    score = answer_scorer(changed(context, eval_samples=8), model, Shown())
    score(1)
    told = StatusRecord.read(context.folder.status)
    assert (told.stage, told.computing, told.rows, told.total_rows) == ("train", "generate", 8, 8)
    monkeypatch.setattr(stop_signals, "received", "SIGTERM")
    with pytest.raises(EvaluationStopped):
        score(2)
