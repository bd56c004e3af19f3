"""What a person watches on the terminal while the job trains."""

import logging
import sys
import time
from collections.abc import Mapping
from datetime import timedelta

from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0


class ProgressLines:
    """The terminal: a bar, or without a terminal a plain line every few seconds, with step, loss, speed and the time left."""

    def start(self, step: int, total_steps: int) -> None:
        self.started, self.first_step, self.total_steps, self.last_line = time.perf_counter(), step, total_steps, 0.0
        self.bar = tqdm(total=total_steps, initial=step, unit="step", disable=not sys.stderr.isatty())

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Shows what was logged after `step`."""
        if "loss" not in values:
            return
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix(loss=f"{values['loss']:.4f}")
        now, done = time.perf_counter(), step - self.first_step
        is_due = now - self.last_line >= LINE_EVERY_S or step == self.total_steps
        if not self.bar.disable or not is_due or done == 0:
            return
        self.last_line = now
        left_s = (now - self.started) / done * (self.total_steps - step)
        log.info(
            "step %d/%d (%d %%), loss %.4f, %.1f examples/s, %s left", step, self.total_steps, 100 * step // self.total_steps,
            values["loss"], values["examples_per_second"], timedelta(seconds=round(left_s)),
        )  # fmt: skip

    def close(self) -> None:
        self.bar.close()
