"""What a person watches on the terminal while the job trains."""

import logging
import time
from collections.abc import Callable, Mapping

from job.system.live_view import describe_left, live_view

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0


class ProgressLines:
    """The live view, or without a terminal a plain line every few seconds, with step, loss, speed, the time left."""

    def __init__(self, machine: Callable[[], str] = lambda: "") -> None:
        """machine: says what the GPU does and what the run has cost."""
        self.machine = machine

    def start(self, step: int, total_steps: int) -> None:
        self.started, self.first_step, self.total_steps, self.last_line = time.perf_counter(), step, total_steps, 0.0
        live_view.show("train", step, total_steps, None)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Shows what was logged after `step`."""
        done = step - self.first_step
        if "loss" not in values or done == 0:
            return
        now, total = time.perf_counter(), self.total_steps
        facts = [f"loss {values['loss']:.4f}", f"{values['examples_per_second']:.1f} examples/s"]
        left_s = (now - self.started) / done * (total - step)
        if live_view.is_possible:
            live_view.show("train", step, total, left_s, [*facts, self.machine()])
        elif now - self.last_line >= LINE_EVERY_S or step == total:
            self.last_line = now
            said = [f"step {step}/{total} ({100 * step // total} %)", *facts, describe_left(left_s), self.machine()]
            log.info("%s", ", ".join(filter(None, said)))

    def close(self) -> None:
        live_view.clear()
