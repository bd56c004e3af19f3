"""The step that trains: it makes what was planned fit the memory, obeys signals and clock, and leaves a verified adapter."""

import json
import logging
import time
from dataclasses import replace
from datetime import timedelta

import psutil
import torch
from peft import PeftModel
from transformers import set_seed

from job.config import configs
from job.evaluation.generate import generate, prompt_of
from job.model.activations import checkpoint_blocks
from job.model.cpu import use_fast_dropout
from job.model.load import add_lora
from job.model.packing import accept_packed
from job.pipeline import watch
from job.pipeline.steps import Job, load_base_model, timed
from job.plan.measured import FACTOR
from job.publish.adapter import save_adapter
from job.system.durable import check_space, write_json
from job.system.hardware import GIB, estimate_training_s
from job.system.signals import stop_signals
from job.training import train as training
from job.training.padding_free import packing_is_exact, packing_is_faster
from job.training.probe import check_precision
from job.training.rehearse import free_memory, largest_micro_batch, longest_batch, smaller
from job.training.supervision import Supervision
from job.training.train import Trained

log = logging.getLogger(__name__)

CHECKPOINT_WIDTH, CHECKPOINTS = 12, 3
"""Bytes that a checkpoint takes for a trained parameter (weight and two moments of AdamW), and how many are there at once."""
ADAPTER_WIDTH, ADAPTERS = 4, 6
"""The same of adapters alone: the best ones kept, the one being written, the one published."""
OTHER_FILES_BYTES = 64 * 2**20
"""Tokenizer files, curves, evaluation, plan."""
PUBLISHING_S = 60
"""For the proof, whose process loads the model again, card and report."""


def fit(job: Job) -> PeftModel:
    """The trained model; its adapter is in its folder, verified.

    Out of memory, before or in the middle, means a smaller micro-batch from the last checkpoint on: the effective batch and the
    order of the rows stay, and so does the result.
    """
    job.folder.tell("running", stage="train")
    model, effective = _new_model(job), job.settings.effective_batch_size
    trainable, total = model.get_nb_trainable_parameters()
    log.info("trainable: %s of %s parameters (%.2f %%)", f"{trainable:,}", f"{total:,}", 100 * trainable / total)
    check_disk(job, trainable)
    if job.hardware.device == "cpu":
        _warn_of_cpu(job, total)
    if job.way.precision != "fp32":
        check_precision(model, longest_batch(model, job.prepared.train, job.tokenizer))
    if job.way.padding_free:
        job = _pack_if_it_pays(job, model)
    micro_batch = largest_micro_batch(model, job.prepared.train, job.tokenizer, job.way.micro_batch, effective)
    supervision = _supervise(job, model)
    while True:
        try:
            with timed(job.folder, "training"):
                trained = _train_once(job, model, micro_batch, supervision)
            break
        except torch.OutOfMemoryError:
            micro_batch = smaller(micro_batch, effective)
        del model
        free_memory()
        model = _new_model(job)
        if job.way.padding_free:
            accept_packed(model.get_base_model())
    _keep_what_was_measured(job, micro_batch, trained)
    _publish_adapter(job, model, trained)
    return model


def check_disk(job: Job, trainable: int) -> None:
    """Raises DiskFull unless what the run will write has room: checkpoints and adapters at their most, the small files."""
    needed = trainable * (CHECKPOINT_WIDTH * CHECKPOINTS + ADAPTER_WIDTH * ADAPTERS) + OTHER_FILES_BYTES
    check_space(job.folder.path, needed, "this run will write")


def _new_model(job: Job) -> PeftModel:
    set_seed(job.settings.seed)
    base = load_base_model(job)
    model = add_lora(base, configs.lora_config(job.settings, base))
    checkpoint_blocks(model, job.way.checkpointed_blocks)
    if job.hardware.device == "cpu":
        use_fast_dropout(model)
    return model


def _pack_if_it_pays(job: Job, model: PeftModel) -> Job:
    """`job` with what `model` is made for here: packed rows, or padded ones where these are better."""
    attention = model.config._attn_implementation
    accept_packed(model.get_base_model())
    if _packing_pays(job, model):
        return job
    model.set_attn_implementation(attention)
    _update_plan(job, padding_free=False)
    return replace(job, way=replace(job.way, padding_free=False))


def _packing_pays(job: Job, model: PeftModel) -> bool:
    """Whether packed rows are what padded ones are and, where time is measured, faster: before the first step, on a GPU.

    Not on a CPU, where packing always was faster: bit for bit the same run wants the same choice.
    """
    if not packing_is_exact(model, job.prepared.train, job.tokenizer):
        return False
    is_open = job.settings.padding_free == "auto" and not job.settings.full_determinism and not job.folder.is_begun
    if job.hardware.device == "cpu" or not is_open:
        return True
    return packing_is_faster(model, job.prepared.train, job.tokenizer, job.way.micro_batch)


def _train_once(job: Job, model: PeftModel, micro_batch: int, supervision: Supervision) -> Trained:
    """One try with this micro-batch. Raises KeyboardInterrupt if a stop was asked for, with a checkpoint sealed."""
    _update_plan(job, micro_batch=micro_batch)
    arguments = configs.training_arguments(job.settings, job.folder.checkpoints, job.hardware.device, micro_batch)
    curves = watch.curves(job)
    supervision = replace(supervision, examine=watch.examiner(job, model, curves))
    data = (job.prepared.train, job.prepared.evaluation)
    with stop_signals.deferred():
        trained = training.train(model, arguments, data, job.tokenizer, supervision, curves)
    stop_signals.raise_if_received()
    return trained


def _supervise(job: Job, model: PeftModel) -> Supervision:
    answering_s = 0.0
    if job.hardware.device == "cuda" or job.settings.max_hours:
        answering_s = rehearse_answers(job, model)
    deadline = float("inf")
    if job.settings.max_hours:
        process_age_s = time.time() - psutil.Process().create_time()
        deadline = time.monotonic() - process_age_s + 3600 * job.settings.max_hours - 2 * answering_s - PUBLISHING_S
    return Supervision(
        stop_asked=lambda: stop_signals.received,
        report=lambda **progress: job.folder.beat("train", **progress),
        checkpoint_s=60 * job.settings.checkpoint_minutes,
        deadline=deadline,
        grace_s=job.settings.grace_s,
        patience=job.settings.early_stopping_patience,
    )


def rehearse_answers(job: Job, model: PeftModel) -> float:
    """Seconds that answering all held-out rows would take, were all as long as the longest.

    Answers as many of the longest inputs as an evaluation has at once, so that one which cannot fit is known before training.
    Raises OutOfMemory.
    """
    decoding = job.scoring.decoding
    answered = job.prepared.evaluation.select(range(min(len(job.prepared.evaluation), job.settings.eval_max_rows)))
    prompts = [prompt_of(row, job.seq2seq) for row in answered]
    rows, started = len(prompts), time.perf_counter()
    at_once = min(rows, decoding.batch_size)
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        generate(model, job.tokenizer, [max(prompts, key=len)] * at_once, decoding)
    free_memory()
    return (time.perf_counter() - started) * rows / at_once


def _publish_adapter(job: Job, model: PeftModel, trained: Trained) -> None:
    write_json(job.folder.history, trained.history)
    facts = configs.job_file(job.settings, job.seq2seq, job.prepared, job.way, trained)
    save_adapter(model, job.tokenizer, job.folder.adapter, facts, longest_batch(model, job.prepared.evaluation, job.tokenizer))


def _keep_what_was_measured(job: Job, micro_batch: int, trained: Trained) -> None:
    plan, speed = json.loads(job.folder.plan.read_text()), trained.examples_per_s
    expected = plan.get("predicted_examples_per_s", 0) / plan.get("speed_factor", 1)
    _update_plan(job, measured_examples_per_s=round(speed, 3), **({FACTOR: round(speed / expected, 4)} if expected else {}))
    if job.hardware.device == "cuda":
        reserved, allocated = torch.cuda.max_memory_reserved() / GIB, torch.cuda.max_memory_allocated() / GIB
        log.info("peak memory: %.2f GiB with %d rows at once", reserved, micro_batch)
        _update_plan(job, measured_peak_gib=round(reserved, 2), measured_allocated_gib=round(allocated, 2))


def _update_plan(job: Job, **facts: object) -> None:
    write_json(job.folder.plan, json.loads(job.folder.plan.read_text()) | facts)


def _warn_of_cpu(job: Job, parameters: int) -> None:
    passes = job.settings.num_train_epochs
    if job.settings.max_steps:
        passes = job.settings.max_steps * job.settings.effective_batch_size / len(job.prepared.train)
    estimate_s = estimate_training_s(parameters, round(sum(job.prepared.train["length"][:]) * passes))
    log.warning(
        "NO GPU: training on the CPU, which may take about %s. DEVICE=cuda makes a missing GPU an error.",
        timedelta(seconds=round(estimate_s)),
    )
