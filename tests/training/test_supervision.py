"""Stop signals, the clock and reports, at the end of a step."""

import time

import pytest
from transformers import TrainerControl, TrainerState

from job.training.supervision import EvaluationStopped, Supervision, Supervisor


def after_step(step: int, **supervision: object) -> tuple[TrainerControl, Supervisor]:
    """What is asked of a training of ten steps after one of them."""
    supervisor, control = Supervisor(Supervision(**supervision)), TrainerControl()
    supervisor.on_step_end(None, TrainerState(global_step=step, max_steps=10), control)
    return control, supervisor


def test_nothing_is_asked_of_a_training_that_may_go_on():
    control, supervisor = after_step(3)
    assert (control.should_save, control.should_training_stop, supervisor.out_of_time) == (False, False, False)


def test_a_stop_signal_ends_the_training():
    control, supervisor = after_step(3, stop_asked=lambda: "SIGTERM")
    assert control.should_training_stop
    assert not supervisor.out_of_time


def test_the_deadline_ends_the_training_unless_it_is_at_its_end_anyway(caplog):
    passed = time.monotonic() - 1
    assert after_step(3, deadline=passed)[0].should_training_stop
    assert "MAX_HOURS: training ends at step 3 of 10; what was learned is kept" in caplog.text
    control, supervisor = after_step(10, deadline=passed)
    assert (control.should_training_stop, supervisor.out_of_time) == (False, False)


def test_a_checkpoint_is_due_by_the_clock_and_not_before():
    assert after_step(3, checkpoint_s=0)[0].should_save
    assert not after_step(3, checkpoint_s=3600)[0].should_save


def test_an_evaluation_is_left_half_done_where_a_stop_is_asked_for():
    with pytest.raises(EvaluationStopped):
        Supervisor(Supervision(stop_asked=lambda: True)).on_prediction_step(None, TrainerState(), TrainerControl())


def test_a_report_has_the_step_its_share_and_the_last_loss():
    reports = []
    supervisor = Supervisor(Supervision(report=lambda **told: reports.append(told)))
    state = TrainerState(global_step=3, max_steps=8)
    supervisor.on_log(None, state, None, logs={"loss": 0.5})
    supervisor.on_log(None, state, None, logs={"eval_loss": 9.0})
    supervisor.saved(state)
    told = reports[-1]
    assert (told["step"], told["total_steps"], told["percent"], told["loss"], told["last_checkpoint"]) == (3, 8, 37.5, 0.5, 3)


def test_the_time_left_is_that_of_the_steps_of_this_session(monkeypatch):
    """Resumed after step 100: 4 steps took 2 s, 16 are left."""
    reports, clock = [], [1000.0]
    monkeypatch.setattr("job.training.supervision.time.monotonic", lambda: clock[0])
    supervisor = Supervisor(Supervision(report=lambda **told: reports.append(told)))
    supervisor.on_train_begin(None, TrainerState(global_step=100, max_steps=120), None)
    clock[0] += 2
    supervisor.saved(TrainerState(global_step=104, max_steps=120))
    assert reports[0]["eta_s"] == 8
