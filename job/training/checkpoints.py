"""Checkpoints that are complete or not there: sealed by a manifest written last, with the sha256 of every file.

One holds the trained weights and the optimizer's tensors as safetensors, and `progress.json`. Nothing in it is a pickle, and
nothing in it depends on the number of ranks.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from job.errors import DiskFull, SettingsError
from job.system.durable import flush_to_disk, is_disk_full, make_readable, write_json
from job.training.optimizer import state_of

log = logging.getLogger(__name__)

MANIFEST, ADAPTER, OPTIMIZER, PROGRESS = "manifest.json", "adapter.safetensors", "optimizer.safetensors", "progress.json"
STEP, BEST = "checkpoint", "best"
"""Kinds of checkpoints, by their names: what training resumes from, and the adapter of the best evaluation so far."""
KEPT = 2
CHUNK_BYTES = 2**20


@dataclass
class Progress:
    """How far a training is: what a checkpoint holds beside tensors."""

    step: int = 0
    """Optimizer steps taken."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Every logged point of the curves, from the first step on."""
    loss_since_log: float = 0.0
    steps_since_log: int = 0
    loss_scale: dict[str, Any] = field(default_factory=dict)
    """Of float16."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    """What the optimizer remembers beside tensors."""


def write_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
    """Writes and seals a checkpoint in `folder`, replacing one that is there. Raises DiskFull."""
    with new_folder(folder):
        save_adapter(model, folder)
        tensors, progress.optimizer = state_of(optimizer)
        save_file(tensors, folder / OPTIMIZER)
        write_json(folder / PROGRESS, asdict(progress))


@dataclass(frozen=True)
class Checkpoint:
    """What a training continues from."""

    progress: Progress
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`. Raises SettingsError for one of lora-job 0.1.0."""
    if not (folder / ADAPTER).exists():
        raise SettingsError(
            f"{folder} was written by lora-job 0.1.0, whose unfinished runs cannot be resumed. Choose another RUN_NAME, or set "
            "OVERWRITE=true to start again."
        )
    progress = Progress(**json.loads((folder / PROGRESS).read_text()))
    return Checkpoint(progress, load_file(folder / ADAPTER), load_file(folder / OPTIMIZER))


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """An empty `folder`, sealed at the end.

    Raises DiskFull where no space is left for it; then it is deleted, and the checkpoint before it stays.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield
        seal(folder)
    except Exception as error:
        if not is_disk_full(error, folder.parent):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        kept = newest_whole(folder.parent)
        raise DiskFull(
            f"OUTPUT_DIR: no space left for {folder}. {f'{kept.name} is complete' if kept else 'No checkpoint was written yet'}. "
            "Free some and run the same command again."
        ) from error


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Writes the trained weights of `model`, by their names in it."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    save_file({name: parameter.detach().cpu().contiguous() for name, parameter in trained.items()}, folder / ADAPTER)


def load_trained(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts weights that `save_adapter` wrote back into `model`."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


def seal(folder: Path) -> None:
    """Puts every file of `folder` on the disk, and then the manifest: from now on the checkpoint counts.

    Files get the modes that others of this person have; safetensors writes with 0600.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(MANIFEST))
    for path in files:
        make_readable(path)
        flush_to_disk(path)
    hashes = {str(path.relative_to(folder)): _sha256(path) for path in files}
    write_json(folder / MANIFEST, hashes)
    flush_to_disk(folder.parent)


def is_whole(folder: Path) -> bool:
    """Whether `folder` is sealed and holds what was sealed, no file more or less."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text())
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
        return there == hashes.keys() and all(_sha256(folder / name) == wanted for name, wanted in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def newest_whole(folder: Path, kind: str = STEP) -> Path | None:
    """The newest checkpoint of this kind in `folder` that is whole; newer ones that are not are set aside as torn-checkpoint-N."""
    for checkpoint in sorted(checkpoints_of(folder, kind), key=step_of, reverse=True):
        if is_whole(checkpoint):
            return checkpoint
        aside = checkpoint.with_name(f"torn-{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        log.warning("%s is incomplete, as after a kill while it was written: set aside as %s", checkpoint, aside.name)
    return None


def rotate(folder: Path) -> None:
    """Deletes all checkpoints in `folder` but the newest KEPT, and what was set aside."""
    for checkpoint in [*sorted(checkpoints_of(folder, STEP), key=step_of)[:-KEPT], *folder.glob("torn-*")]:
        shutil.rmtree(checkpoint, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was taken after."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints_of(folder: Path, kind: str) -> list[Path]:
    """The checkpoints of this kind in `folder`, whole or not, in no order."""
    return [path for path in folder.glob(f"{kind}-*") if path.is_dir() and re.fullmatch(rf"{kind}-\d+", path.name)]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
