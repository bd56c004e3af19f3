"""Speed, padding and memory of a training."""

import resource
import time
from collections.abc import Mapping
from typing import Any

import torch

from job.labels import IGNORED
from job.system.hardware import GIB
from job.system.ranks import Ranks


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
