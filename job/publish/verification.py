"""Whether what was published is what was trained: a fresh process loads it from the disk and answers rows again."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from job.errors import OutOfMemory, VerificationFailed
from job.system.children import die_with_parent
from job.system.out_of_memory import tells_of_out_of_memory

SCRIPT = Path(__file__).with_name("reload.py")
TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.05}
"""What a row's loss, or the logits of two tokens of which one was chosen here and the other there, may differ by, relative if
above 1, where only the order of additions differs."""
QUANTISED_TOLERANCE = 0.5
"""The same of a base that is quantised."""
SHOWN = 60
"""Letters of an answer that a message shows."""
APART = 0.01
"""What the losses of base and adapter must differ by, relative if above 1, to say which of them a loss is nearer to."""


@dataclass(frozen=True)
class Answers:
    """What a model makes of some rows."""

    outputs: Sequence[str]
    losses: Sequence[float]
    """Mean cross-entropy of the right answer."""
    ids: Sequence[list[int]] | None = None
    """The outputs as tokens, to their end marker; None where nobody kept them."""
    gaps: Sequence[dict[str, float]] | None = None
    """Of a fresh process: how near it was to answering otherwise, by that other text; see `reload.token_gap`."""


@dataclass(frozen=True)
class Difference:
    """How far two sides are from each other."""

    rows: int
    same_outputs: int
    largest_loss_difference: float
    """Relative where the loss is above 1."""
    tolerance: float
    """What that may be."""
    nearer_to_base: bool = False
    """Whether the losses are those of the base rather than those of the adapter: it was not loaded."""
    near_ties: int = 0
    """Answers that differ from a token on that was as likely as the expected one: rounding decided."""
    example: tuple[str, str] | None = None
    """What was expected and what was found, of an answer that differs by more."""
    answers_decide: bool = True
    """Whether no answer may differ but for near ties; else answers are told, and losses alone decide."""

    @property
    def other_answers(self) -> int:
        """Answers that differ by more than rounding."""
        return self.rows - self.same_outputs - self.near_ties

    @property
    def is_too_large(self) -> bool:
        """Whether it is more than rounding, or than what another quantisation makes of the weights."""
        return self.losses_differ or (self.answers_decide and self.other_answers > 0)

    @property
    def losses_differ(self) -> bool:
        """Whether the losses alone say so."""
        return self.nearer_to_base or not self.largest_loss_difference <= self.tolerance

    @property
    def answers(self) -> str:
        """What became of the answers, for a person."""
        text = f"{self.same_outputs} of {self.rows} answers the same"
        if self.near_ties:
            text += f", {self.near_ties} a near tie of two tokens"
        if self.example:
            text += f', {self.other_answers} differ: expected "{_short(self.example[0])}", found "{_short(self.example[1])}"'
        return text

    def __str__(self) -> str:
        text = f"{self.answers}, losses within {self.largest_loss_difference:.1e}"
        return f"{text}, which are the base model's" if self.nearer_to_base else text


def _short(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} ..."


def compare_answers(
    found: Answers, expected: Answers, tolerance: float, base_losses: Sequence[float] | None = None, answers_decide: bool = True
) -> Difference:
    """How far `found` is from what was `expected` of an adapter; a loss that is not finite is infinitely far.

    An answer may be another only where rounding decides: `found.gaps` says how near it was to the expected one.
    answers_decide: False where one side's weights are rounded otherwise than the other's, as a long answer then soon goes another
    way, and where nobody kept the expected tokens, as nobody knows then how near an answer was.
    """
    same = [one == other for one, other in zip(found.outputs, expected.outputs, strict=True)]
    apart = [abs(one - other) / max(1.0, abs(other)) for one, other in zip(found.losses, expected.losses, strict=True)]
    largest = max(value if math.isfinite(value) else math.inf for value in apart)
    gaps, tie = found.gaps or [{}] * len(same), min(tolerance, max(TOLERANCE.values()))
    ties = [not equal and gap.get(text, math.inf) <= tie for equal, gap, text in zip(same, gaps, expected.outputs, strict=True)]
    other = next((row for row in range(len(same)) if not same[row] and not ties[row]), None)
    return Difference(
        rows=len(same),
        same_outputs=sum(same),
        largest_loss_difference=largest,
        tolerance=tolerance,
        nearer_to_base=_is_nearer_to(base_losses, found.losses, expected.losses, max(APART, tolerance / 2)),
        near_ties=sum(ties),
        example=None if other is None else (expected.outputs[other], found.outputs[other]),
        answers_decide=answers_decide,
    )


def with_answers(rows: Sequence[dict], *sides: Answers) -> list[dict]:
    """`rows` of a task with what these sides answered, so that a fresh process says how near it was to that."""
    return [
        row | {"answers": {side.outputs[number]: side.ids[number] for side in sides if side.ids}} for number, row in enumerate(rows)
    ]


def _is_nearer_to(base: Sequence[float] | None, found: Sequence[float], adapter: Sequence[float], apart: float) -> bool:
    """Whether `found` is the base's; no, where base and adapter are closer than `apart`, and rounding may decide."""
    if base is None or abs(fmean(base) - fmean(adapter)) <= apart * max(1.0, fmean(adapter)):
        return False
    return abs(fmean(found) - fmean(base)) < abs(fmean(found) - fmean(adapter))


def run_script(task: str) -> subprocess.CompletedProcess[str]:
    """Runs `reload` as anybody could. The task goes through a pipe: it may hold a token."""
    command = [sys.executable, str(SCRIPT)]
    return subprocess.run(command, input=task, capture_output=True, text=True, check=False, preexec_fn=die_with_parent)


def answer_in_fresh_process(task: dict) -> Answers | None:
    """What `reload.answer` finds in a process of its own; None where the memory has no room for that.

    Raises VerificationFailed, with what it said last, if it fails.
    """
    ended = run_script(json.dumps(task))
    if ended.returncode == 0:
        found = json.loads(ended.stdout.splitlines()[-1])
        return Answers(found["outputs"], found["losses"], gaps=found.get("gaps"))
    message = _last_error(ended.stderr) or f"exit code {ended.returncode}"
    if tells_of_out_of_memory(message):
        return None
    what = task["adapter"] or task["model"]
    if ended.returncode < 0:
        raise _killed(what, signal.Signals(-ended.returncode))
    raise VerificationFailed(
        f"{what}: a fresh process with peft and transformers alone cannot use it: {message.splitlines()[0]}. Report it, with "
        "the log."
    )


def _last_error(stderr: str) -> str:
    """The message, of as many lines as it has, of the last traceback; the last line where there is none."""
    _, traceback, rest = stderr.strip().rpartition("Traceback (most recent call last):\n")
    lines = rest.splitlines()
    return "\n".join(line for line in lines if not line.startswith(" ")) if traceback else "".join(lines[-1:])


def _killed(what: str, by: signal.Signals) -> OutOfMemory | VerificationFailed:
    """What it means that the fresh process was ended by a signal: nothing was proven."""
    died = f"{what}: the fresh process that loads it once more was ended by {by.name}"
    again = "run the same command again: only this is left to do."
    if by == signal.SIGKILL:
        return OutOfMemory(f"{died}, as a machine does that runs out of memory. Free some and {again}")
    return VerificationFailed(f"{died}. Find out what sent it and {again}")
