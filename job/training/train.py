"""Training, from the newest checkpoint if there is one."""

import logging
import sys
from pathlib import Path
from statistics import median

import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from job.errors import Diverged
from job.training.telemetry import ProgressLines
from job.training.trainer import LoraTrainer

log = logging.getLogger(__name__)


def train(
    model: PeftModel,
    arguments: TrainingArguments,
    data: tuple[Dataset, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    logs_dir: Path | None,
) -> dict[str, float]:
    """Trains the adapter of `model` in place; the Trainer's metrics, and the median of `examples_per_second`.

    data: training rows, held-out rows. logs_dir: folder for TensorBoard's event files, None for none.
    Raises Diverged if the adapter is not finite at the end.
    """
    callbacks = [ProgressLines()] if arguments.disable_tqdm else []
    if logs_dir is not None:
        callbacks.append(TensorBoardCallback(SummaryWriter(str(logs_dir))))
    trainer = LoraTrainer(model, arguments, data, tokenizer, callbacks)
    trainer.remove_callback(PrinterCallback)
    if not sys.stderr.isatty():
        trainer.remove_callback(ProgressCallback)
    checkpoint = get_last_checkpoint(arguments.output_dir) if Path(arguments.output_dir).is_dir() else None
    if checkpoint:
        log.info("goes on from %s", checkpoint)
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    check_finite(model)
    speeds = [entry["examples_per_second"] for entry in trainer.state.log_history if "examples_per_second" in entry]
    return metrics | {"examples_per_second": median(speeds[1:] or speeds)}


def check_finite(model: PeftModel) -> None:
    """Raises Diverged if a trained weight is NaN or infinite."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise Diverged(f"the trained weights hold NaN or infinity ({name}). Lower LEARNING_RATE; nothing was saved as final.")
