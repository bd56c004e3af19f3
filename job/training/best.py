"""The adapter of the best evaluation so far, kept beside the checkpoints and sealed like them."""

import shutil
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from job.training.checkpoints import BEST, STEP, checkpoints_of, newest_whole, seal, step_of

WEIGHTS = "adapter_model.safetensors"


def keep_adapter(model: PeftModel, checkpoints: Path, step: int) -> None:
    """Writes the adapter as it is after `step`. Deletes older ones, except what a run that resumes from a checkpoint needs."""
    folder = checkpoints / f"{BEST}-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
    seal(folder)
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


def take_best_adapter(model: PeftModel, checkpoints: Path) -> int | None:
    """Loads the adapter that was kept last into `model`; the step it is of, None if there is none."""
    folder = newest_whole(checkpoints, BEST)
    if folder is None:
        return None
    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
    return step_of(folder)
