"""What a person watches while the job trains: speed, padding, memory, and a line or a bar on the terminal."""

import logging
import resource
import time
from datetime import timedelta
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from job.labels import IGNORED
from job.system.hardware import GIB

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0


class Telemetry:
    """Counts rows and tokens between two points of the curves."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.started, self.rows, self.places, self.tokens = time.perf_counter(), 0, 0, 0

    def count(self, inputs: dict[str, Any]) -> None:
        """Adds one micro-batch, padded or packed. Causal models have input and answer in one sequence."""
        self.rows += len(inputs["attention_mask"])
        self.places += inputs["input_ids"].numel()
        self.tokens = self.tokens + inputs["attention_mask"].sum()
        if "decoder_input_ids" in inputs:
            self.places += inputs["labels"].numel()
            self.tokens = self.tokens + inputs["labels"].ne(IGNORED).sum()

    def read(self) -> dict[str, float]:
        """Speed, padding share and peak memory (GiB) since the last reading, which resets the counts."""
        elapsed_s, tokens = time.perf_counter() - self.started, int(self.tokens)
        reading = {
            "examples_per_second": self.rows / elapsed_s,
            "tokens_per_second": tokens / elapsed_s,
            "padding_share": 1 - tokens / max(self.places, 1),
            "peak_memory_gib": peak_memory_bytes() / GIB,
        }
        self._reset()
        return reading


def peak_memory_bytes() -> int:
    """Peak of the GPU's allocated memory, or of this process's resident memory where there is no GPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class ProgressLines(TrainerCallback):
    """Without a terminal: one plain line every few seconds, with step, loss, speed and the time left."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first_step, self.last_line = time.perf_counter(), state.global_step, 0.0

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        now, done = time.perf_counter(), state.global_step - self.first_step
        is_due = now - self.last_line >= LINE_EVERY_S or state.global_step == state.max_steps
        if not logs or "loss" not in logs or not is_due or done == 0:
            return
        self.last_line = now
        left_s = (now - self.started) / done * (state.max_steps - state.global_step)
        log.info(
            "step %d/%d (%d %%), loss %.4f, %.1f examples/s, %s left",
            state.global_step, state.max_steps, 100 * state.global_step // state.max_steps,
            logs["loss"], logs["examples_per_second"], timedelta(seconds=round(left_s)),
        )  # fmt: skip
