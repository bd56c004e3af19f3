"""The library's Trainer made to survive interruption: killed at any moment, a run ends as if it had never been touched."""

import contextlib
import json
import logging
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from job.errors import DiskFull, Diverged
from job.system.durable import is_disk_full, write_json
from job.training.best import keep_adapter
from job.training.checkpoints import newest_whole, rotate, seal
from job.training.supervision import EvaluationStopped, Supervision, Supervisor

log = logging.getLogger(__name__)

PROGRESS = "progress.json"
TRAINING_ARGUMENTS = "training_args.bin"


class ResumableTrainer(Trainer):
    """A Trainer whose checkpoints are sealed, and hold what the library forgets.

    With `metric_for_best_model` the adapter of the best evaluation is kept beside them.
    """

    def __init__(self, *args: Any, supervision: Supervision, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supervisor = Supervisor(supervision)
        self.add_callback(self.supervisor)
        self._cut_off = False
        """Whether a stop cut off the evaluation that was due at this step."""
        self._evaluated_step: int | None = None
        self._taken_up: dict[str, Any] | None = None
        self._sealed: tuple[Path, bool] | None = None
        """The newest checkpoint, and whether it owes an evaluation."""
        self._told_grace = False

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The library's, leaving no trace in the random state: a resumed run does not evaluate where the first one did."""
        with preserved_random_state(self.args.device):
            metrics = super().evaluate(*args, **kwargs)
        self._evaluated_step, self._cut_off = self.state.global_step, False
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: None) -> bool:
        """The library's; keeps the adapter of a new best evaluation, and ends the training when patience is at its end."""
        is_best = super()._determine_best_metric(metrics, trial)
        self.state.best_global_step = None  # else the library looks for a checkpoint that may be gone
        if is_best and self.args.should_save:
            with disk_full_as_error(Path(self.args.output_dir)):
                keep_adapter(self.model, Path(self.args.output_dir), self.state.global_step)
        if self._is_out_of_patience:
            patience = self.supervisor.supervision.patience
            log.info("training ends at step %d of %d: EARLY_STOPPING_PATIENCE, %d measurements without a better %s",
                     self.state.global_step, self.state.max_steps, patience, self.args.metric_for_best_model)  # fmt: skip
            self.control.should_training_stop = True
        return is_best

    @property
    def _is_out_of_patience(self) -> bool:
        """Whether patience is used up, by what was logged alone, so that a resumed run knows it as well."""
        name = f"eval_{self.args.metric_for_best_model}"
        values = [entry[name] for entry in self.state.log_history if name in entry]
        patience = self.supervisor.supervision.patience
        if patience is None or not values:
            return False
        best = values.index(max(values) if self.args.greater_is_better else min(values))
        return len(values) - 1 - best >= patience

    @property
    def _owes_evaluation(self) -> bool:
        """Whether an evaluation was due at this step and is not done; that of an epoch comes after the save of its last step."""
        ends_epoch = float(self.state.epoch or 0.5).is_integer() or self._is_at_the_end
        is_due = self.args.eval_strategy == "epoch" and ends_epoch
        return self._cut_off or (is_due and self._evaluated_step != self.state.global_step)

    @property
    def _is_at_the_end(self) -> bool:
        """Whether no step is left; the library would take one more before it looks."""
        return self.state.global_step >= self.state.max_steps

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """The library's. Once a stop is asked for, nothing more is measured or saved here: the one save is at the end."""
        stopping = self.supervisor.supervision.stop_asked() or self.supervisor.out_of_time
        if stopping:
            self.control.should_training_stop = True
            self._cut_off |= self.control.should_evaluate and self.args.eval_strategy == "steps"
            self.control.should_evaluate = self.control.should_save = False
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except EvaluationStopped:
            self._cut_off = self.control.should_training_stop = True

    def _save_checkpoint(self, model: torch.nn.Module, trial: None = None) -> None:
        """A sealed checkpoint of this step. Raises Diverged for an adapter that is not finite, DiskFull."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self._sealed == (folder, self._owes_evaluation):
            return
        check_finite(self.model, folder.parent)
        started = time.perf_counter()
        with disk_full_as_error(folder):
            shutil.rmtree(folder, ignore_errors=True)
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                (folder / TRAINING_ARGUMENTS).unlink()  # a pickle that nobody reads
                write_json(folder / PROGRESS, self._progress())
                seal(folder)
        self._sealed = folder, self._owes_evaluation
        rotate(folder.parent)
        self.supervisor.saved(self.state)
        self._compare_with_grace(time.perf_counter() - started)

    def _progress(self) -> dict[str, Any]:
        """What the library keeps in memory alone, though the next logged loss depends on it."""
        return {
            "loss_since_log": self._tr_loss.item(),
            "loss_before_log": self._total_loss_scalar,
            "last_logged_step": self._globalstep_last_logged,
            "owes_evaluation": self._owes_evaluation,
        }

    def _compare_with_grace(self, save_s: float) -> None:
        grace_s, step_s = self.supervisor.supervision.grace_s, self.supervisor.step_s(self.state)
        log.debug("checkpoint of step %d sealed in %.1f s", self.state.global_step, save_s)
        if save_s + step_s > grace_s and not self._told_grace:
            self._told_grace = True
            log.warning(
                "a step and a checkpoint take %.0f s, GRACE_S=%d: after a sudden stop the run resumes from the last checkpoint; "
                "CHECKPOINT_MINUTES says how old that may be", save_s + step_s, grace_s,
            )  # fmt: skip

    def _prepare_for_training(self, max_steps: int, train_dataloader: DataLoader, resume_from_checkpoint: str | None) -> Any:
        if resume_from_checkpoint:
            self._taken_up = json.loads((Path(resume_from_checkpoint) / PROGRESS).read_text())
            self._cut_off = self._taken_up["owes_evaluation"]
            self._evaluated_step = None if self._cut_off else self.state.global_step
            self._sealed = Path(resume_from_checkpoint), self._cut_off
            self.state.compute_steps(self.args, max_steps)  # else LOGGING_STEPS and SAVE_STEPS stay what they were before the stop
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _run_epoch(self, *, epoch: int, **rest: Any) -> None:
        if self._taken_up:
            self._take_up(self._taken_up)
            self._taken_up = None
            self._evaluate_what_is_owed()
            self.control.should_training_stop |= self._is_out_of_patience or self._is_at_the_end
        if not self.control.should_training_stop:
            super()._run_epoch(epoch=epoch, **rest)

    def _take_up(self, progress: dict[str, Any]) -> None:
        """What `_progress` kept, put back after the library has reset it."""
        self._tr_loss += progress["loss_since_log"]
        self._total_loss_scalar, self._globalstep_last_logged = progress["loss_before_log"], progress["last_logged_step"]

    def _evaluate_what_is_owed(self) -> None:
        """The evaluation that a stop cut off."""
        if not self._owes_evaluation or self.supervisor.supervision.stop_asked():
            return
        try:
            self._determine_best_metric(self._evaluate(None, None), None)
        except EvaluationStopped:
            self.control.should_training_stop = True

    def _finalize_training(self, trial: None, num_train_samples: int, start_time: float) -> Any:
        if self.supervisor.supervision.stop_asked():
            self._save_checkpoint(self.model)
        else:
            self._evaluate_what_is_owed()
        return super()._finalize_training(trial, num_train_samples, start_time)


@contextlib.contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """The random states of Python, numpy and torch are afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def disk_full_as_error(folder: Path) -> Iterator[None]:
    """Raises DiskFull where no space is left for `folder`, which goes: the checkpoint before it stays."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error, folder.parent):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        kept = newest_whole(folder.parent)
        raise DiskFull(
            f"OUTPUT_DIR: no space left for {folder}. {f'{kept.name} is whole' if kept else 'No checkpoint was written yet'}. "
            "Free some and run the same command again."
        ) from error


def check_finite(model: torch.nn.Module, checkpoints: Path) -> None:
    """Raises Diverged, naming the last checkpoint, if a trained weight is NaN or infinite."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise Diverged(f"the trained weights hold NaN or infinity ({name}). {last_finite(checkpoints)}")


def last_finite(checkpoints: Path) -> str:
    """Where the last good state is, and what to change."""
    kept = newest_whole(checkpoints)
    where = f"The last finite checkpoint is {kept}. " if kept else ""
    return f"{where}With another RUN_NAME lower LEARNING_RATE, raise WARMUP_STEPS or set PRECISION=fp32."
