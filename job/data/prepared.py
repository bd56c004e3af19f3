"""What preparing leaves on the disk: training and held-out rows, tokenised, and a summary of them in JSON."""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.lengths import Truncation
from job.data.look import Look
from job.data.unknown_text import UnknownText
from job.errors import first_line
from job.system.durable import replace_folder_durably
from job.system.seal import GONE, damage, seal

log = logging.getLogger(__name__)

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
    rows: list[str] = field(default_factory=list)
    """sha256 of each table that was read; empty where an older version prepared it."""
    preprocess_sha256: str | None = None
    """Of the file of PREPROCESS."""
    look: Look | None = None
    """What a person should see of it; None where an older version prepared it."""
    test: Dataset | None = None
    """Held-out rows that nothing was chosen by, taken out of `evaluation`; None where a run takes none."""

    @property
    def answered(self) -> Dataset:
        """The rows that base and adapter answer after training: the verdict's."""
        return self.evaluation if self.test is None else self.test


def load_prepared(folder: Path) -> PreparedData | None:
    """What `prepare` left in `folder`, memory-mapped; None if there is nothing, or not what was written: a warning says so."""
    if not (folder / SUMMARY).exists():
        return None
    if found := prepared_damage(folder):
        log.warning("%s: %s: the prepared data there is not used", folder, "; ".join(found))
        return None
    return read_prepared(folder)


def prepared_damage(folder: Path) -> list[str]:
    """What of prepared data is not as it was written, a text a file. What versions before the manifest left is only read.

    Raises OSError where a file that is there cannot be read: that is no word on what is in it.
    """
    try:
        if json.loads((folder / SUMMARY).read_text()).get("sealed"):
            return [f"{name} {what}" for name, what in damage(folder).items()]
        read_prepared(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno and not isinstance(error, GONE):
            raise
        return [f"{SUMMARY} or a file that belongs to it is damaged ({first_line(error)})"]
    return []


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
        rows=summary.get("rows", []),
        chat=summary.get("chat", False),
        source_lengths=summary.get("source_lengths", {}),
        target_lengths=summary.get("target_lengths", {}),
        opening=summary.get("opening"),
        unknown=UnknownText.from_dict(summary.get("unknown", {})),
        preprocess_sha256=summary.get("preprocess_sha256"),
        look=Look.from_dict(summary.get("look")),
        columns=_columns(summary.get("columns")),
    )


def _columns(kept: dict[str, Any] | None) -> ColumnMapping:
    if kept is None:  # prepared before a shape was recognised
        return ColumnMapping(AUTO, AUTO, AUTO, AUTO).without_auto()
    return ColumnMapping(**{**kept, "languages": tuple(kept["languages"])})


def save_prepared(prepared: PreparedData, folder: Path, cut_rows: Path) -> None:
    """Writes `folder`, with the list of cut rows if there is one, beside its place, seals it and moves it there."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    prepared.train.save_to_disk(str(partial / "train"))
    prepared.evaluation.save_to_disk(str(partial / "eval"))
    summary = {
        "sealed": True,
        "fingerprint": prepared.fingerprint,
        "rows": prepared.rows,
        "train_cut": prepared.train_truncation.as_dict(),
        "eval_cut": prepared.eval_truncation.as_dict(),
        "chat": prepared.chat,
        "source_lengths": prepared.source_lengths,
        "target_lengths": prepared.target_lengths,
        "opening": prepared.opening,
        "unknown": asdict(prepared.unknown),
        "columns": asdict(prepared.columns),
        "preprocess_sha256": prepared.preprocess_sha256,
        "look": asdict(prepared.look) if prepared.look else None,
    }
    if cut_rows.exists():
        shutil.copy(cut_rows, partial)
    (partial / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    seal(partial)
    replace_folder_durably(partial, folder)
