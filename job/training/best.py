"""The adapter of the best evaluation so far, kept beside the checkpoints and sealed like them."""

import shutil
from pathlib import Path

from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from job.training.checkpoints import ADAPTER, BEST, STEP, checkpoints_of, new_folder, newest_whole, save_adapter, step_of


def keep_adapter(model: PeftModel, checkpoints: Path, step: int) -> None:
    """Writes the adapter as it is after `step`. Deletes older ones, except what a run that resumes from a checkpoint needs."""
    folder = checkpoints / f"{BEST}-{step}"
    with new_folder(folder):
        save_adapter(model, folder)
    steps = sorted(map(step_of, checkpoints_of(checkpoints, BEST)))
    needed = set(steps[-1:])
    for checkpoint in checkpoints_of(checkpoints, STEP):
        needed |= set([number for number in steps if number <= step_of(checkpoint)][-1:])
    for number in set(steps) - needed:
        shutil.rmtree(checkpoints / f"{BEST}-{number}")


def forget_after(step: int, checkpoints: Path) -> None:
    """Deletes what was kept after `step`, where a run resumes: it will be made again."""
    for folder in checkpoints.glob(f"{BEST}-*"):
        if step_of(folder) > step:
            shutil.rmtree(folder)


def read_best_adapter(checkpoints: Path) -> tuple[int, dict[str, Tensor]] | None:
    """The step and the weights of the adapter that was kept last; None if there is none."""
    folder = newest_whole(checkpoints, BEST)
    return None if folder is None else (step_of(folder), load_file(folder / ADAPTER))
