"""Who watches a training from outside: stop signals, the clock, and `status.json`."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger(__name__)

HEARTBEAT_EVERY_S = 5.0
"""How often a running stage reports its progress."""


class EvaluationStopped(Exception):
    """Leaves an evaluation half done; the resumed run does it again."""


@dataclass(frozen=True)
class Supervision:
    """What a training obeys and reports to."""

    stop_asked: Callable[[], object] = lambda: False
    """True once a stop signal has arrived."""
    report: Callable[..., None] = lambda **_: None
    """Takes step, total_steps, percent, eta_s, loss and last_checkpoint, every few seconds."""
    patience: int | None = None
    """Evaluations in a row without a new best one after which training ends."""
    score_answers: Callable[[int], dict[str, float]] = lambda _: {}
    """Scores of the model's answers after so many steps, by name, beside its loss on the held-out rows."""
    checkpoint_s: float = float("inf")
    """Seconds after which a checkpoint is due, whatever the steps say."""
    deadline: float = float("inf")
    """When to stop learning, by time.monotonic()."""
    grace_s: float = 30
    """What a machine gives between SIGTERM and the end."""


class Supervisor(TrainerCallback):
    """Stops, saves and reports at the end of a step, as the supervision says."""

    def __init__(self, supervision: Supervision) -> None:
        self.supervision = supervision
        self.out_of_time = False
        self._loss: float | None = None
        self._last_checkpoint: int | None = None
        self._started = self._saved = time.monotonic()
        self._first_step, self._reported = 0, 0.0

    def step_s(self, state: TrainerState) -> float:
        """Mean seconds of a step in this session; 0 before the first."""
        done = state.global_step - self._first_step
        return (time.monotonic() - self._started) / done if done else 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._started = self._saved = time.monotonic()
        self._first_step = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        if now - self._saved >= self.supervision.checkpoint_s:
            control.should_save = True
        if self.supervision.stop_asked():
            control.should_training_stop = True
        elif now >= self.supervision.deadline and state.global_step < state.max_steps:
            self.out_of_time = control.should_training_stop = True
            log.warning("MAX_HOURS: training ends at step %d of %d; what was learned is kept", state.global_step, state.max_steps)
        self._report_now_and_then(state)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: Any
    ) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def saved(self, state: TrainerState) -> None:
        """Takes note of a sealed checkpoint."""
        self._saved, self._last_checkpoint = time.monotonic(), state.global_step
        self._report(state)

    def on_prediction_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.supervision.stop_asked():
            raise EvaluationStopped
        self._report_now_and_then(state)

    def _report_now_and_then(self, state: TrainerState) -> None:
        if time.monotonic() - self._reported >= HEARTBEAT_EVERY_S:
            self._reported = time.monotonic()
            self._report(state)

    def _report(self, state: TrainerState) -> None:
        left_s = self.step_s(state) * (state.max_steps - state.global_step)
        self.supervision.report(
            step=state.global_step, total_steps=state.max_steps, eta_s=round(left_s), loss=self._loss,
            percent=round(100 * state.global_step / max(state.max_steps, 1), 1), last_checkpoint=self._last_checkpoint,
        )  # fmt: skip
