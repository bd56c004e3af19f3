"""Training, from the newest whole checkpoint if there is one."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from job.training.best import forget_after, take_best_adapter
from job.training.checkpoints import newest_whole, step_of
from job.training.curves import Curves
from job.training.resumable import check_finite
from job.training.supervision import Supervision
from job.training.telemetry import ProgressLines
from job.training.trainer import LoraTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What a training did."""

    step: int
    """Optimizer steps, of this session and of those before it."""
    total_steps: int
    adapter_step: int
    """The step after which the adapter was as it is now: the last, or that of the best evaluation."""
    examples_per_s: float
    """Median over the logged points."""
    history: list[dict[str, float]]
    """Every logged point of the curves, from the first step on."""


def train(
    model: PeftModel,
    arguments: TrainingArguments,
    data: tuple[Dataset, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    supervision: Supervision,
    curves: Curves | None,
) -> TrainingResult:
    """Trains the adapter of `model` in place.

    data: training rows, held-out rows. A stop that `supervision` asks for ends it after the step that it is at, with a checkpoint.
    Raises Diverged if the adapter is not finite at the end.
    """
    checkpoints = Path(arguments.output_dir)
    trainer = LoraTrainer(model, arguments, data, tokenizer, supervision)
    checkpoint = newest_whole(checkpoints)
    step = step_of(checkpoint) if checkpoint else 0
    if checkpoint:
        log.info("resuming from %s", checkpoint)
    forget_after(step, checkpoints)
    _show_progress(trainer, curves, step)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check_finite(model, checkpoints)
    best = None if supervision.stop_asked() else take_best_adapter(model, checkpoints)
    return _summed_up(trainer, best)


def _summed_up(trainer: LoraTrainer, best: int | None) -> TrainingResult:
    state = trainer.state
    if best is not None and best != state.global_step:
        name = f"eval_{trainer.args.metric_for_best_model}"
        log.info("the adapter is that of step %d of %d, where %s was best: %.4f", best, state.global_step, name, state.best_metric)
    history = [entry for entry in state.log_history if "train_runtime" not in entry]
    speeds = [entry["examples_per_second"] for entry in history if "examples_per_second" in entry]
    examples_per_s = median(speeds[1:] or speeds or [0.0])
    return TrainingResult(state.global_step, state.max_steps, best or state.global_step, examples_per_s, history)


def _show_progress(trainer: LoraTrainer, curves: Curves | None, step: int) -> None:
    """Lines or a bar on the terminal, and curves, where points after `step` of a run that was cut off vanish."""
    if trainer.args.disable_tqdm:
        trainer.add_callback(ProgressLines())
    if curves is not None:
        curves.start(step)
        trainer.add_callback(curves)
    trainer.remove_callback(PrinterCallback)
    if not sys.stderr.isatty():
        trainer.remove_callback(ProgressCallback)
