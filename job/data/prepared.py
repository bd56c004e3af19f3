"""What preparing leaves on the disk: training and held-out rows, tokenised, and a summary of them in JSON."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.lengths import Truncation
from job.data.look import Look
from job.data.unknown_text import UnknownText

SUMMARY = "summary.json"


@dataclass(frozen=True)
class PreparedData:
    """Columns of both datasets: `input`, `ground_truth` (text), `input_ids`, `labels`, `length` (tokens of both
    sides), and what a person calls the row in `row`."""

    train: Dataset
    evaluation: Dataset
    train_truncation: Truncation
    eval_truncation: Truncation
    fingerprint: str
    """sha256 of everything that the rows depend on."""
    chat: bool = False
    """Whether the rows are chats in the model's own template."""
    source_lengths: dict[str, int] = field(default_factory=dict)
    """Tokens of an input before the cut -> training rows; empty where that is not known."""
    target_lengths: dict[str, int] = field(default_factory=dict)
    opening: dict[str, Any] | None = None
    """The `messages` and `tools` that all training chats begin with: a system message that each question was asked after."""
    unknown: UnknownText = field(default_factory=UnknownText)
    columns: ColumnMapping = field(default_factory=lambda: ColumnMapping(AUTO, AUTO, AUTO, AUTO).without_auto())
    """What was taken from the table."""
    look: Look | None = None
    """What a person should see of it; None where an older version prepared it."""


def load_prepared(folder: Path) -> PreparedData | None:
    """What `prepare` left in `folder`, memory-mapped; None if there is nothing complete."""
    return read_prepared(folder) if (folder / SUMMARY).exists() else None


def read_prepared(folder: Path) -> PreparedData:
    """The same of a folder that is known to be complete."""
    summary = json.loads((folder / SUMMARY).read_text())
    train_truncation, eval_truncation = (
        Truncation(**{**summary[name], "dropped": tuple(summary[name]["dropped"])}) for name in ("train_cut", "eval_cut")
    )
    return PreparedData(
        train=load_from_disk(str(folder / "train")),
        evaluation=load_from_disk(str(folder / "eval")),
        train_truncation=train_truncation,
        eval_truncation=eval_truncation,
        fingerprint=summary["fingerprint"],
        chat=summary.get("chat", False),
        source_lengths=summary.get("source_lengths", {}),
        target_lengths=summary.get("target_lengths", {}),
        opening=summary.get("opening"),
        unknown=UnknownText.from_dict(summary.get("unknown", {})),
        look=Look.from_dict(summary.get("look")),
        columns=_columns(summary.get("columns")),
    )


def _columns(kept: dict[str, Any] | None) -> ColumnMapping:
    if kept is None:  # prepared before a shape was recognised
        return ColumnMapping(AUTO, AUTO, AUTO, AUTO).without_auto()
    return ColumnMapping(**{**kept, "languages": tuple(kept["languages"])})


def save_prepared(prepared: PreparedData, folder: Path, cut_rows: Path) -> None:
    """Writes `folder`, with the list of cut rows if there is one, beside its place and moves it there whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    prepared.train.save_to_disk(str(partial / "train"))
    prepared.evaluation.save_to_disk(str(partial / "eval"))
    summary = {
        "fingerprint": prepared.fingerprint,
        "train_cut": prepared.train_truncation.as_dict(),
        "eval_cut": prepared.eval_truncation.as_dict(),
        "chat": prepared.chat,
        "source_lengths": prepared.source_lengths,
        "target_lengths": prepared.target_lengths,
        "opening": prepared.opening,
        "unknown": asdict(prepared.unknown),
        "columns": asdict(prepared.columns),
        "look": asdict(prepared.look) if prepared.look else None,
    }
    if cut_rows.exists():
        shutil.copy(cut_rows, partial)
    (partial / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
