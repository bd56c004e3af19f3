"""What is checked once the model is in memory and before the first training step, so that nothing fails at step 900."""

import logging
import time
from datetime import timedelta

import torch
from peft import PeftModel

from job.evaluation.generate import generate, prompt_of
from job.model.packing import accept_packed
from job.model.patches import attention_implementation
from job.model.sharding import is_sharded
from job.pipeline.context import RunContext
from job.preflight.memory import longest_batch
from job.preflight.packing import packing_is_exact, packing_is_faster
from job.preflight.precision import check_precision
from job.system.durable import check_space
from job.system.hardware import estimate_training_s, free_memory

log = logging.getLogger(__name__)

CHECKPOINT_WIDTH, CHECKPOINTS = 12, 3
"""Bytes that a checkpoint takes for a trained parameter (weight and two moments of AdamW), and how many are there at once."""
ADAPTER_WIDTH, ADAPTERS = 4, 6
"""The same of adapters alone: the best ones kept, the one being written, the one published."""
OTHER_FILES_BYTES = 64 * 2**20
"""Tokenizer files, curves, evaluation, plan."""


def check_before_training(context: RunContext, model: PeftModel) -> None:
    """Raises DiskFull or Diverged if disk or precision will not do; reports what is trained. Rank 0 checks for all."""
    trainable, total = model.get_nb_trainable_parameters()
    if not context.ranks.is_main:
        return
    log.info("trainable: %s of %s parameters (%.2f %%)", f"{trainable:,}", f"{total:,}", 100 * trainable / total)
    check_disk(context, trainable)
    if context.hardware.device == "cpu":
        _warn_of_cpu(context, total)
    if is_sharded(model):
        log.info("the base is sharded over %d processes: its precision is not compared with float32", context.ranks.world_size)
    elif context.plan.precision != "fp32":
        check_precision(model, longest_batch(model, context.prepared.train, context.tokenizer))


def check_disk(context: RunContext, trainable: int) -> None:
    """Raises DiskFull unless what the run will write has room: checkpoints and adapters at their most, the small files."""
    needed = trainable * (CHECKPOINT_WIDTH * CHECKPOINTS + ADAPTER_WIDTH * ADAPTERS) + OTHER_FILES_BYTES
    check_space(context.folder.path, needed, "this run will write")


def choose_padding_free(context: RunContext, model: PeftModel) -> bool:
    """Whether `model` trains on packed rows, which it then accepts: where the plan has it, and the check finds them sound."""
    if not context.plan.padding_free:
        return False
    attention = attention_implementation(model)
    accept_packed(model.get_base_model())
    if is_sharded(model):
        pays = context.ranks.broadcast(_packing_pays(context, model))
    else:
        pays = context.ranks.from_main(lambda: _packing_pays(context, model))
    if pays:
        return True
    model.set_attn_implementation(attention)
    return False


def _packing_pays(context: RunContext, model: PeftModel) -> bool:
    """Whether packed rows are what padded ones are and, where time is measured, faster: before the first step, on a GPU.

    Not on a CPU, where packing always was faster: bit for bit the same run wants the same choice.
    """
    settings, rows = context.settings, context.prepared.train
    if not packing_is_exact(model, rows, context.tokenizer):
        return False
    is_open = settings.padding_free == "auto" and not settings.full_determinism and not context.folder.is_begun
    if context.hardware.device == "cpu" or not is_open:
        return True
    return packing_is_faster(model, rows, context.tokenizer, context.plan.micro_batch)


def check_generation(context: RunContext, model: PeftModel) -> float:
    """Seconds that answering all held-out rows would take, were all as long as the longest.

    Answers as many of the longest inputs as an evaluation has at once, so that one which cannot fit is known before training.
    Raises OutOfMemory.
    """
    rows = context.prepared.evaluation
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
