"""The adapter of the best evaluation so far, kept beside the checkpoints and sealed like them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from job.errors import DiskFailed
from job.system.durable import delete_folder
from job.system.seal import damage, is_whole
from job.training.checkpoints import (
    ADAPTER,
    BEST,
    STEP,
    Checkpoint,
    checkpoints_of,
    new_folder,
    newest_whole,
    read_checkpoint,
    save_adapter,
    set_aside,
    step_of,
)  # fmt: skip
from job.training.config import TrainingConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The best evaluation of a training."""

    step: int
    value: float
    since: int
    """Evaluations after it."""


def best_of(history: Sequence[Mapping[str, float]], config: TrainingConfig) -> Best | None:
    """By the history alone, so that a resumed run knows it as well; None where nothing was evaluated by the metric of `config`."""
    name, better = f"eval_{config.metric_for_best_model}", max if config.greater_is_better else min
    found = [(int(entry["step"]), entry[name]) for entry in history if name in entry]
    if not found:
        return None
    values = [value for _, value in found]
    place = values.index(better(values))
    return Best(*found[place], since=len(values) - 1 - place)


def kept_adapter(checkpoints: Path, step: int) -> Path:
    """The folder of the adapter as it was after `step`."""
    return checkpoints / f"{BEST}-{step}"


def keep_adapter(model: PeftModel, checkpoints: Path, step: int) -> None:
    """Writes the adapter as it is after `step`. Deletes older ones, except what a run that resumes from a checkpoint needs."""
    folder = kept_adapter(checkpoints, step)
    with new_folder(folder):
        save_adapter(model, folder)
    steps = sorted(map(step_of, checkpoints_of(checkpoints, BEST)))
    needed = set(steps[-1:])
    for checkpoint in checkpoints_of(checkpoints, STEP):
        needed |= set([number for number in steps if number <= step_of(checkpoint)][-1:])
    for number in set(steps) - needed:
        delete_folder(kept_adapter(checkpoints, number))


def newest_checkpoint(config: TrainingConfig) -> Checkpoint | None:
    """The newest that is whole, and so the adapter of its best evaluation: without that the run would end with another.

    Newer ones are set aside. Raises SettingsError for one of lora-job 0.1.0.
    """
    while folder := newest_whole(config.checkpoints):
        checkpoint = read_checkpoint(folder)
        best = best_of(checkpoint.progress.history, config)
        if best is None or is_whole(kept_adapter(config.checkpoints, best.step)):
            log.info("resuming from %s", folder)
            return checkpoint
        set_aside(folder, f"needs best-{best.step}, the adapter of its best evaluation, which is not whole")
    return None


def forget_after(step: int, checkpoints: Path) -> None:
    """Deletes what was kept after `step`, where a run resumes: it will be made again."""
    for folder in checkpoints.glob(f"{BEST}-*"):
        if step_of(folder) > step:
            delete_folder(folder)


def read_kept_adapter(checkpoints: Path, step: int) -> dict[str, Tensor]:
    """The weights of the adapter as it was after `step`. Raises DiskFailed where they are not as they were written, and OSError."""
    folder = kept_adapter(checkpoints, step)
    for name, what in damage(folder).items():
        raise DiskFailed(f"{folder / name}: {what}. Run the same command again: it makes it anew from a checkpoint before it.")
    return load_file(folder / ADAPTER)
