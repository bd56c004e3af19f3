"""Stop signals, the clock and reports: what a training obeys between two steps, and what it tells."""

import dataclasses
import time

import pytest
import torch

from job.training.checkpoints import newest_whole
from job.training.loop import Training
from job.training.supervision import EvaluationStopped, Supervision
from tests.training.material import begun, run

EVALUATED = {"eval_strategy": "steps", "eval_steps": 3}


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, to be moved on; a step takes four."""
    moment = [1000.0]
    monkeypatch.setattr("job.training.loop.time.monotonic", lambda: moment[0])
    usual = Training.step

    def step(self: Training) -> object:
        moment[0] += 4
        return usual(self)

    monkeypatch.setattr(Training, "step", step)
    return moment


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the job warned of, without the libraries."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("job")]


def saved_steps(monkeypatch) -> list[int]:
    """Fills with the steps whose checkpoints are written."""
    steps = []
    monkeypatch.setattr("job.training.loop.write_checkpoint", lambda folder, *_: steps.append(int(folder.name.split("-")[1])))
    return steps


def test_nothing_is_asked_of_a_training_that_may_go_on(t5_folder, tmp_path, monkeypatch, caplog):
    steps = saved_steps(monkeypatch)
    _, result = run(t5_folder, tmp_path)
    assert (result.step, result.total_steps, steps) == (5, 5, [])
    assert said(caplog) == []


def test_a_stop_signal_ends_the_training_after_the_step_that_is_computed_with_a_checkpoint(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path)
    told = {"stop": False}
    training.supervision = dataclasses.replace(training.supervision, stop_asked=lambda: told["stop"])
    usual = training.stepper.objective

    class Signalled:
        def __call__(self, model, batch):
            told["stop"] = training.progress.step == 2
            return usual(model, batch)

    assert not training.step().stop
    training.stepper.objective = Signalled()
    assert [training.step().stop for _ in range(2)] == [False, True]
    assert training.progress.step == 3
    _, stopped = run(t5_folder, tmp_path / "whole", supervision=Supervision(stop_asked=lambda: "SIGTERM"))
    assert stopped.step == 0


def test_the_deadline_ends_the_training_with_what_was_learned(t5_folder, tmp_path, clock, caplog):
    _, result = run(t5_folder, tmp_path, max_steps=10, supervision=Supervision(deadline=clock[0] + 9))
    assert (result.step, result.total_steps, result.adapter_step) == (3, 10, 3)
    assert said(caplog) == ["MAX_HOURS: training ends at step 3 of 10; what was learned is kept"]


def test_a_deadline_that_has_passed_leaves_one_step_of_each_session(t5_folder, tmp_path, caplog):
    passed = Supervision(deadline=time.monotonic() - 1)
    _, first = run(t5_folder, tmp_path, supervision=passed, save_strategy="steps", save_steps=1)
    _, second = run(t5_folder, tmp_path, supervision=passed, save_strategy="steps", save_steps=1)
    assert (first.step, second.step) == (1, 2)
    assert caplog.text.count("MAX_HOURS: training ends at step 1 of 5") == 1


def test_a_deadline_says_nothing_of_a_training_that_is_at_its_end_anyway(t5_folder, tmp_path, caplog):
    _, result = run(t5_folder, tmp_path, max_steps=1, supervision=Supervision(deadline=time.monotonic() - 1))
    assert result.step == 1
    assert "MAX_HOURS" not in caplog.text


@pytest.mark.parametrize(("checkpoint_s", "expected"), [(0, [1, 2, 3, 4, 5, 6, 7]), (10, [3, 6]), (3600, [])])
def test_a_checkpoint_is_due_by_the_clock_and_not_before(t5_folder, tmp_path, clock, monkeypatch, checkpoint_s, expected):
    """A step takes four seconds."""
    steps = saved_steps(monkeypatch)
    run(t5_folder, tmp_path, max_steps=7, supervision=Supervision(checkpoint_s=checkpoint_s))
    assert steps == expected


def test_the_clock_counts_from_the_last_checkpoint_whatever_asked_for_it(t5_folder, tmp_path, clock, monkeypatch):
    steps = saved_steps(monkeypatch)
    supervision = Supervision(checkpoint_s=10)
    run(t5_folder, tmp_path, max_steps=9, supervision=supervision, save_strategy="steps", save_steps=5)
    assert steps == [3, 5, 8, 9], "12 s, SAVE_STEPS, 12 s, the end"


@pytest.mark.parametrize("evaluation", [EVALUATED, {"eval_strategy": "epoch"}], ids=["steps", "epoch"])
@pytest.mark.parametrize("where", ["loss", "answers"])
def test_an_evaluation_that_a_stop_cut_off_is_not_in_the_history_and_is_made_again(t5_folder, tmp_path, evaluation, where):
    """Steps 3, 6 and 7 of 7, or 4 and 7, where an epoch has four."""
    options = {"max_steps": 7, "dropout": 0.1, "metric_for_best_model": "loss"} | evaluation
    expected, whole = run(t5_folder, tmp_path / "whole", **options)
    losses = {entry["step"]: entry["eval_loss"] for entry in whole.history if "eval_loss" in entry}
    training, stop = [], []

    def stop_asked() -> bool:
        return bool(stop) or (where == "loss" and bool(training) and not training[0].model.training)

    def score(step: int) -> dict:
        if where == "answers":
            stop.append(step)
            raise EvaluationStopped
        return {}

    with pytest.MonkeyPatch.context() as patch:
        usual = Training.evaluate
        patch.setattr(Training, "evaluate", lambda self: training.append(self) or usual(self))
        supervision = Supervision(stop_asked=stop_asked, score_answers=score)
        _, stopped = run(t5_folder, tmp_path / "cut", supervision=supervision, **options)
    assert stopped.step == min(losses)
    assert not any("eval_loss" in entry for entry in stopped.history)
    assert newest_whole(tmp_path / "cut").name == f"checkpoint-{stopped.step}"
    assert not list((tmp_path / "cut").glob("best-*"))
    adapter, resumed = run(t5_folder, tmp_path / "cut", **options)
    assert {entry["step"]: entry["eval_loss"] for entry in resumed.history if "eval_loss" in entry} == losses
    assert torch.equal(adapter, expected)


@pytest.mark.parametrize("question", range(1, 10))
def test_wherever_it_is_stopped_an_evaluation_counts_once(t5_folder, tmp_path, question):
    """Five steps with an evaluation after each second: all nine moments at which a stop can be noticed."""
    options = {"max_steps": 5, "eval_strategy": "steps", "eval_steps": 2}
    questions, scored = [], []

    def stop_asked() -> bool:
        questions.append(1)
        return len(questions) == question

    supervision = Supervision(stop_asked=stop_asked, score_answers=lambda step: scored.append(step) or {})
    run(t5_folder, tmp_path, supervision=supervision, **options)
    _, result = run(t5_folder, tmp_path, supervision=supervision, **options)
    assert result.step == 5
    assert scored == [2, 4, 5]
    assert [entry["step"] for entry in result.history if "eval_loss" in entry] == [2, 4, 5]


def test_a_report_has_the_step_its_share_the_last_loss_and_the_last_checkpoint(t5_folder, tmp_path):
    reports = []
    training = begun(t5_folder, tmp_path, max_steps=8, supervision=Supervision(report=lambda **told: reports.append(told)))
    for _ in range(3):
        training.step()
        training.log_if_due()
    training.evaluate()
    training.save()
    told, loss = reports[-1], training.progress.history[2]["loss"]
    assert (told["step"], told["total_steps"], told["percent"], told["loss"], told["last_checkpoint"]) == (3, 8, 37.5, loss, 3)


def test_a_report_comes_every_few_seconds(t5_folder, tmp_path, clock):
    """A step takes four seconds, a report is due after five."""
    reports = []
    run(t5_folder, tmp_path, supervision=Supervision(report=lambda **told: reports.append(told["step"])), max_steps=6)
    assert reports == [1, 3, 5]


def test_an_evaluation_reports_as_well(t5_folder, tmp_path, clock):
    reports = []
    supervision = Supervision(report=lambda **told: reports.append(told["step"]))
    training = begun(t5_folder, tmp_path, micro_batch=1, supervision=supervision)
    training.reported = clock[0]
    training.evaluate()
    assert reports == []
    clock[0] += 6
    training.evaluate()
    assert reports == [0]


def test_the_time_left_is_that_of_the_steps_of_this_session(t5_folder, tmp_path, clock):
    """Resumed after step 2: two steps took 8 s, four are left."""
    reports = []
    first = begun(t5_folder, tmp_path, max_steps=8)
    for _ in range(2):
        first.step()
    first.save()
    clock[0] += 5000
    training = begun(t5_folder, tmp_path, max_steps=8, supervision=Supervision(report=lambda **told: reports.append(told)))
    for _ in range(2):
        training.step()
    training.save()
    assert (reports[0]["step"], reports[0]["eta_s"]) == (4, 16)


@pytest.mark.parametrize(("grace_s", "warned"), [(3, 1), (30, 0)])
def test_the_grace_period_is_compared_once_with_a_step_and_a_save(t5_folder, tmp_path, clock, caplog, grace_s, warned):
    run(t5_folder, tmp_path, supervision=Supervision(grace_s=grace_s), save_strategy="steps", save_steps=1)
    expected = f"a step and a checkpoint take 4 s, GRACE_S={grace_s}: after a sudden stop the run resumes from the last checkpoint"
    assert caplog.text.count(expected) == warned
    assert Supervision().grace_s == 30
