"""What is checked once the model is in memory and before the first training step, so that nothing fails at step 900."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from peft import PeftModel

from job.evaluation.generate import generate, prompt_of
from job.model.packed_attention import accept_packed
from job.model.sharding import is_sharded
from job.pipeline.context import RunContext
from job.preflight.packing import packing_is_faster, why_padded
from job.preflight.padding import check_padding
from job.preflight.precision import check_precision
from job.preflight.rows_alone import Alone
from job.system.durable import check_space
from job.system.hardware import estimate_training_s, free_memory

log = logging.getLogger(__name__)

Found = TypeVar("Found")

CHECKPOINT_WIDTH, CHECKPOINTS = 12, 3
"""Bytes that a checkpoint takes for a trained parameter (weight and two moments of AdamW), and how many are there at once."""
ADAPTER_WIDTH, ADAPTERS = 4, 6
"""The same of adapters alone: the best ones kept, the one being written, the one published."""
OTHER_FILES_BYTES = 64 * 2**20
"""Tokenizer files, curves, evaluation, plan."""


def check_before_training(context: RunContext, alone: Alone) -> None:
    """Raises DiskFull, SettingsError or Diverged if disk, padding or precision will not do; reports what is trained.

    Rank 0 checks for all.
    """
    model = alone.model
    trainable, total = model.get_nb_trainable_parameters()
    if not context.ranks.is_main:
        return
    log.info("trainable: %s of %s parameters (%.2f %%)", f"{trainable:,}", f"{total:,}", 100 * trainable / total)
    check_disk(context, trainable)
    if context.hardware.device == "cpu":
        _warn_of_cpu(context, total)
    if is_sharded(model):
        log.info("the base is sharded over %d processes: neither precision nor padding is checked", context.ranks.world_size)
        return
    if context.plan.quantization != "int8":  # rounds a row by what else is in its batch
        check_padding(alone)
    if context.plan.precision != "fp32":
        check_precision(alone)


def check_disk(context: RunContext, trainable: int) -> None:
    """Raises DiskFull unless what the run will write has room: checkpoints and adapters at their most, the small files."""
    needed = trainable * (CHECKPOINT_WIDTH * CHECKPOINTS + ADAPTER_WIDTH * ADAPTERS) + OTHER_FILES_BYTES
    check_space(context.folder.path, needed, "this run will write")


def choose_padding_free(context: RunContext, alone: Alone) -> bool:
    """Whether the model trains on packed rows, which it then accepts; says why where it doesn't."""
    reason, model = _why_padded(context, alone), alone.model
    if reason is not None and context.ranks.is_main:
        level = logging.WARNING if context.settings.padding_free == "true" else logging.INFO
        log.log(level, "rows of %s are padded, not packed: %s", model.config.model_type, reason)
    return reason is None


def _why_padded(context: RunContext, alone: Alone) -> str | None:
    """Why the model trains on padded rows; None if it trains on packed ones, which it then accepts.

    What is faster is asked on a GPU alone, before the first step: bit for bit the same run wants the same choice, and on a CPU
    packing always was faster.
    """
    settings, rows, tokenizer, model = context.settings, context.prepared.train, context.tokenizer, alone.model
    if settings.padding_free == "false":
        return "PADDING_FREE=false"
    if not context.plan.padding_free:
        return "as when this run began"
    reason = _agreed(context, model, lambda: why_padded(alone))
    if reason is not None:
        return reason
    undo = accept_packed(model.get_base_model())
    is_begun = context.ranks.broadcast(context.folder.is_begun)  # on another machine the folder may be an empty one
    is_open = settings.padding_free == "auto" and not settings.full_determinism and not is_begun
    if context.hardware.device == "cpu" or not is_open:
        return None
    if _agreed(context, model, lambda: packing_is_faster(model, rows, tokenizer, context.plan.micro_batch)):
        return None
    undo()
    return "that is faster here"


def _agreed(context: RunContext, model: PeftModel, find: Callable[[], Found]) -> Found:
    """What rank 0 finds, on every rank; where the model is sharded all have to compute."""
    return context.ranks.broadcast(find()) if is_sharded(model) else context.ranks.from_main(find)


def check_generation(context: RunContext, model: PeftModel) -> float:
    """Seconds that answering all held-out rows would take, were all as long as the longest.

    Answers as many of the longest inputs as an evaluation has at once, so that one which cannot fit is known before training.
    Raises OutOfMemory.
    """
    rows = context.prepared.answered
    answered = rows.select(range(min(len(rows), context.settings.eval_max_rows)))
    prompts = [prompt_of(row, context.seq2seq) for row in answered]
    batch_size = min(len(prompts), context.scoring.decoding.batch_size)
    started = time.perf_counter()
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        generate(model, context.tokenizer, [max(prompts, key=len)] * batch_size, context.scoring.decoding)
    free_memory()
    return (time.perf_counter() - started) * len(prompts) / batch_size


def _warn_of_cpu(context: RunContext, parameters: int) -> None:
    settings, rows = context.settings, context.prepared.train
    epochs = settings.num_train_epochs
    if settings.max_steps:
        epochs = settings.max_steps * settings.effective_batch_size / len(rows)
    estimate_s = estimate_training_s(parameters, round(sum(rows["length"][:]) * epochs))
    log.warning(
        "NO GPU: training on the CPU, which may take about %s. DEVICE=cuda makes a missing GPU an error.",
        timedelta(seconds=round(estimate_s)),
    )
