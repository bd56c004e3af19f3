"""What a person watches while the job trains: speed, padding, memory, and a line or a bar on the terminal."""

import logging
import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from tqdm import tqdm

from job.labels import IGNORED
from job.system.hardware import GIB
from job.system.ranks import Ranks

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0


class Telemetry:
    """Counts rows and tokens between two points of the curves."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.started, self.rows, self.places, self.tokens = time.perf_counter(), 0, 0, 0

    def count(self, inputs: Mapping[str, Any]) -> None:
        """Adds one micro-batch, padded or packed. Causal models have input and answer in one sequence."""
        self.rows += len(inputs["attention_mask"])
        self.places += inputs["input_ids"].numel()
        self.tokens = self.tokens + inputs["attention_mask"].sum()
        if "decoder_input_ids" in inputs:
            self.places += inputs["labels"].numel()
            self.tokens = self.tokens + inputs["labels"].ne(IGNORED).sum()

    def read(self, ranks: Ranks) -> dict[str, float]:
        """Speed and padding share of all ranks and their largest memory peak (GiB) since the last reading; resets the counts."""
        elapsed_s = time.perf_counter() - self.started
        counts = ranks.gather((self.rows, self.places, int(self.tokens), peak_memory_bytes()))
        rows, places, tokens, _ = map(sum, zip(*counts, strict=True))
        reading = {
            "examples_per_second": rows / elapsed_s,
            "tokens_per_second": tokens / elapsed_s,
            "padding_share": 1 - tokens / max(places, 1),
            "peak_memory_gib": max(count[-1] for count in counts) / GIB,
        }
        self._reset()
        return reading


def peak_memory_bytes() -> int:
    """Peak of the GPU's allocated memory, or of this process's resident memory where there is no GPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
