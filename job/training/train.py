"""Training, from the newest whole checkpoint if there is one."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from datasets import Dataset
from peft import PeftModel
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from job.training.checkpoints import newest_whole, step_of
from job.training.resumable import check_finite
from job.training.supervision import Supervision
from job.training.telemetry import ProgressLines
from job.training.trainer import LoraTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What a training did."""

    step: int
    """Optimizer steps, of this session and of those before it."""
    total_steps: int
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
    logs_dir: Path | None,
) -> Trained:
    """Trains the adapter of `model` in place.

    data: training rows, held-out rows. logs_dir: folder for TensorBoard's event files, None for none. A stop that `supervision`
    asks for ends it after the step that it is at, with a checkpoint. Raises Diverged if the adapter is not finite at the end.
    """
    trainer = LoraTrainer(model, arguments, data, tokenizer, supervision)
    checkpoint = newest_whole(Path(arguments.output_dir))
    if checkpoint:
        log.info("goes on from %s", checkpoint)
    _show_progress(trainer, logs_dir, step_of(checkpoint) if checkpoint else 0)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check_finite(model, Path(arguments.output_dir))
    history = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    speeds = [entry["examples_per_second"] for entry in history if "examples_per_second" in entry]
    return Trained(trainer.state.global_step, trainer.state.max_steps, median(speeds[1:] or speeds or [0.0]), history)


def _show_progress(trainer: LoraTrainer, logs_dir: Path | None, step: int) -> None:
    """Lines or a bar on the terminal, and curves in `logs_dir`, where points after `step` of a run that was cut off vanish."""
    if trainer.args.disable_tqdm:
        trainer.add_callback(ProgressLines())
    if logs_dir is not None:
        trainer.add_callback(TensorBoardCallback(SummaryWriter(str(logs_dir), purge_step=step + 1)))
    trainer.remove_callback(PrinterCallback)
    if not sys.stderr.isatty():
        trainer.remove_callback(ProgressCallback)
