"""A run in TensorBoard: curves in named groups, a page of what matters, answers that change, lengths, settings, final scores."""

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tensorboard.summary.writer import event_file_writer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from job.system.durable import flush_to_disk

SPEED = ("examples_per_second", "tokens_per_second")
GROUPS = {"memory": ("peak_memory_gib",), "data": ("padding_share",), "speed": SPEED}
"""Which curves are not of the group "train"."""
DROPPED = ("epoch", "step")
SCORE = "eval/(?!loss).*"
LAYOUT = {
    "What matters": {
        "loss: training rows, held-out rows": ["Multiline", ["train/loss", "eval/loss"]],
        "score of the held-out rows": ["Multiline", [SCORE]],
        "learning rate": ["Multiline", ["train/learning_rate"]],
    },
    "Speed and memory": {
        "examples a second": ["Multiline", ["speed/examples_per_second"]],
        "peak memory, GiB": ["Multiline", ["memory/peak_memory_gib"]],
        "share of padding": ["Multiline", ["data/padding_share"]],
    },
}
"""The pages of Custom Scalars."""
BINS = 30
LINE_END = re.compile("\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
"""What somebody takes for the end of a line: Markdown for that of a table's row."""
EVENTS = "events.out.tfevents."
"""How the files' names begin; the time follows, in seconds."""

Answer = tuple[str, str, str]
"""Input, right answer, what the model answers."""


class Curves:
    """Writes what a training logs, and what is the same for the whole run, to `folder`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, object], lengths: Mapping[str, np.ndarray], has_score: bool = False
    ) -> None:
        """settings: variables of the run. lengths: tokens of each training row, by what they are the length of. has_score:
        whether an evaluation measures more than the loss."""
        self.folder, self.settings, self.lengths, self.has_score = folder, settings, lengths, has_score
        self.writer: Any = None
        """SummaryWriter, from `start` on."""

    def start(self, step: int, total_steps: int) -> None:
        """Opens the files; what a run that was cut off wrote after `step` vanishes."""
        self.writer = _open_after_all_others(self.folder, purge_step=step + 1 if step else 0)
        if step:
            return
        charts = {page: {name: chart for name, chart in made.items() if self.has_score or chart[1] != [SCORE]}
                  for page, made in LAYOUT.items()}  # fmt: skip
        self.writer.add_custom_scalars(charts)
        self.writer.add_text("settings", markdown_table(("variable", "value"), list(self.settings.items())), 0)
        for name, lengths in self.lengths.items():
            self.writer.add_histogram(f"data/{name}_tokens", lengths, 0, bins=min(BINS, int(np.ptp(lengths)) + 1))
        self.writer.flush()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point of each curve."""
        for name, value in values.items():
            if name not in DROPPED:
                self.writer.add_scalar(tag(name), value, step)
        self.writer.flush()

    def show(self, answers: Sequence[Answer], step: int) -> None:
        """A table of the model's answers after `step`."""
        self.writer.add_text("answers", markdown_table(("input", "right answer", "answer"), answers), step)

    def keep(self) -> None:
        """Returns when all that was logged is on the disk."""
        self.writer.flush()
        _flush_to_disk(self.folder)

    def close(self) -> None:
        self.writer.close()


def tag(name: str) -> str:
    """The curve's name, group first: "eval_loss" is "eval/loss"."""
    if name in ("eval_runtime", "eval_samples_per_second"):
        return f"speed/{name}"
    if name.startswith("eval_"):
        return f"eval/{name.removeprefix('eval_')}"
    return next((f"{group}/{name}" for group, names in GROUPS.items() if name in names), f"train/{name}")


def write_final_scores(
    folder: Path, settings: Mapping[str, object], scores: Mapping[str, float], step: int, group: str = "final"
) -> None:
    """Adds the run to TensorBoard's table of runs (HPARAMS): its settings and `scores`, which are curves of one point as well."""
    values = {name: value if type(value) in (int, float) else str(value) for name, value in settings.items()}
    tags = {f"{group}/{name}": value for name, value in scores.items()}
    with _open_after_all_others(folder) as writer:
        for summary in hparams(values, tags):
            writer.file_writer.add_summary(summary)
        for name, value in tags.items():
            writer.add_scalar(name, value, step)
    _flush_to_disk(folder)


def _flush_to_disk(folder: Path) -> None:
    for path in folder.glob(f"{EVENTS}*"):
        flush_to_disk(path)
    flush_to_disk(folder)


def _open_after_all_others(folder: Path, purge_step: int | None = None) -> SummaryWriter:
    """A new file that TensorBoard reads after those that are there: by the time in its name, and a clock may be set back."""
    times = [0]
    for path in folder.glob(f"{EVENTS}*"):
        with contextlib.suppress(ValueError):
            times.append(int(path.name.removeprefix(EVENTS).split(".")[0]))
    behind_s = max(0.0, max(times) + 1 - time.time())
    usual = event_file_writer.time
    event_file_writer.time = SimpleNamespace(time=lambda: usual.time() + behind_s)
    try:
        return SummaryWriter(str(folder), purge_step=purge_step)
    finally:
        event_file_writer.time = usual


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown whose cells are shown as they are, whatever is in them."""
    lines = [head, ["---"] * len(head), *([_literal(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _literal(text: str) -> str:
    escaped = re.sub(r"[!-/:-@\[-`{-~]", lambda found: f"&#{ord(found[0])};", text)
    return LINE_END.sub("<br>", escaped)
