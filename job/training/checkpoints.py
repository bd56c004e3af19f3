"""Checkpoints that are complete or not there.

One holds the trained weights and the optimizer's tensors as safetensors, and `progress.json`. Nothing in it is a pickle, and
nothing in it depends on the number of ranks.
"""

import contextlib
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
from job.system.durable import write_json
from job.system.file_system import is_disk_full
from job.system.seal import is_whole, seal
from job.training.optimizer import state_of

log = logging.getLogger(__name__)

ADAPTER, OPTIMIZER, PROGRESS = "adapter.safetensors", "optimizer.safetensors", "progress.json"
STEP, BEST = "checkpoint", "best"
"""Kinds of checkpoints, by their names: what training resumes from, and the adapter of the best evaluation so far."""
KEPT = 2


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


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that is whole; newer ones that are not are set aside."""
    for checkpoint in sorted(checkpoints_of(folder, STEP), key=step_of, reverse=True):
        if is_whole(checkpoint):
            return checkpoint
        set_aside(checkpoint, "is incomplete, as after a kill while it was written")
    return None


def set_aside(checkpoint: Path, reason: str) -> None:
    """Renames it to torn-checkpoint-N, so that nothing is resumed from it."""
    aside = checkpoint.with_name(f"torn-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)
    log.warning("%s %s: set aside as %s", checkpoint, reason, aside.name)


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
