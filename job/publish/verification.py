"""Whether what was published is what was trained: a fresh process loads it from the disk and answers rows again."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from job.errors import VerificationFailed

SCRIPT = Path(__file__).with_name("reload.py")
TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.05}
"""What a row's loss may differ by, relative to it if it is above 1, where only the order of additions differs."""
QUANTISED_TOLERANCE = 0.5
"""The same where one side is quantised otherwise than the other: plain transformers leaves T5's `wo` as it is."""
NO_ROOM = ("OutOfMemoryError", "MemoryError", "not enough memory")
KILLED = -9
"""Exit code of a process that the machine ended because it ran out of memory."""
APART = 0.01
"""What the losses of base and adapter must differ by, relative if above 1, to say which of them a loss is nearer to."""


@dataclass(frozen=True)
class Answers:
    """What a model makes of some rows."""

    outputs: Sequence[str]
    losses: Sequence[float]
    """Mean cross-entropy of the right answer."""


@dataclass(frozen=True)
class Difference:
    """How far two sides are from each other."""

    rows: int
    same_outputs: int
    largest_loss_difference: float
    """Relative where the loss is above 1."""
    tolerance: float
    nearer_to_base: bool = False
    """Whether the losses are those of the base rather than those of the adapter: it was not loaded."""

    @property
    def is_too_large(self) -> bool:
        """Whether it is more than rounding."""
        return self.nearer_to_base or not self.largest_loss_difference <= self.tolerance

    def __str__(self) -> str:
        text = f"{self.same_outputs} of {self.rows} answers the same, losses within {self.largest_loss_difference:.1e}"
        return f"{text}, which are the base model's" if self.nearer_to_base else text


def compare_answers(found: Answers, expected: Answers, tolerance: float, base_losses: Sequence[float] | None = None) -> Difference:
    """How far `found` is from what was `expected` of an adapter; a loss that is not finite is infinitely far."""
    same = sum(one == other for one, other in zip(found.outputs, expected.outputs, strict=True))
    apart = [abs(one - other) / max(1.0, abs(other)) for one, other in zip(found.losses, expected.losses, strict=True)]
    largest = max(value if math.isfinite(value) else math.inf for value in apart)
    return Difference(
        len(found.outputs),
        same,
        largest,
        tolerance,
        _is_nearer_to(base_losses, found.losses, expected.losses, max(APART, tolerance / 2)),
    )


def _is_nearer_to(base: Sequence[float] | None, found: Sequence[float], adapter: Sequence[float], apart: float) -> bool:
    """Whether `found` is the base's; no, where base and adapter are closer than `apart`, and rounding may decide."""
    if base is None or abs(fmean(base) - fmean(adapter)) <= apart * max(1.0, fmean(adapter)):
        return False
    return abs(fmean(found) - fmean(base)) < abs(fmean(found) - fmean(adapter))


def run_script(task: str) -> subprocess.CompletedProcess[str]:
    """Runs `reload` as anybody could. The task goes through a pipe: it may hold a token."""
    return subprocess.run([sys.executable, str(SCRIPT)], input=task, capture_output=True, text=True, check=False)


def answer_in_fresh_process(task: dict) -> Answers | None:
    """What `reload.answer` finds in a process of its own; None where the memory has no room for that.

    Raises VerificationFailed, with its last line, if it fails.
    """
    ended = run_script(json.dumps(task))
    if ended.returncode == 0:
        found = json.loads(ended.stdout.splitlines()[-1])
        return Answers(found["outputs"], found["losses"])
    reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    if ended.returncode == KILLED or any(sign in reason for sign in NO_ROOM):
        return None
    raise VerificationFailed(
        f"{task['adapter'] or task['model']}: a fresh process with peft and transformers alone cannot use it: {reason}. "
        "Report it, with the log."
    )
