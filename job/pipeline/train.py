"""The step that trains: it makes what was planned fit the memory, obeys signals and clock, and leaves a verified adapter."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TypeVar

import psutil
from peft import PeftModel
from transformers import enable_full_determinism, set_seed

from job.config.inputs import published_model_id
from job.config.libraries import lora_config, training_config
from job.errors import OutOfMemory
from job.model.checkpointing import checkpoint_blocks
from job.model.lora import add_lora
from job.model.packing import collator
from job.model.patches import use_fast_dropout
from job.model.sharding import is_sharded
from job.pipeline.checks import check_before_training, check_generation, choose_padding_free
from job.pipeline.context import RunContext, timed, update_plan
from job.pipeline.live import describe_figures, live_figures
from job.pipeline.monitor import answer_scorer, make_curves, make_trackers
from job.pipeline.plan import smaller_plan
from job.pipeline.prepare import load_base_model, shard_if_planned
from job.pipeline.records import AdapterRecord, PlanRecord
from job.pipeline.status import write_progress, write_stage
from job.preflight.memory import find_micro_batch, longest_batch
from job.preflight.rows_alone import Alone, telling_rows
from job.publish.adapter import save_adapter
from job.system.durable import write_json
from job.system.hardware import free_memory
from job.system.out_of_memory import out_of_memory_behind
from job.system.progress_lines import ProgressLines
from job.system.signals import stop_signals
from job.training import loop
from job.training.config import TrainingResult
from job.training.supervision import Supervision, Surroundings
from job.training.trackers import Reporter

log = logging.getLogger(__name__)

Made = TypeVar("Made")

PUBLISHING_S = 60
"""For the proof, whose process loads the model again, card and report."""


def train(context: RunContext) -> PeftModel:
    """The trained model; its adapter is in its folder, verified.

    Out of memory, before or in the middle, means a smaller micro-batch: the effective batch and the order of the rows stay, and so
    does the result.
    """
    write_stage(context.folder, "train")
    rows, tokenizer = context.prepared.train, context.tokenizer
    model, micro_batch = _model_that_fits(context)
    update_plan(context.folder, micro_batch=micro_batch)
    surroundings = _surroundings(context, model)
    with stop_signals.deferred():  # until what was learned is on the disk
        with timed(context.folder, "training"):
            config = training_config(context.settings, context.folder.checkpoints)
            result = loop.train(
                model, (rows, context.prepared.evaluation), collator(model, tokenizer), config, micro_batch, surroundings
            )
        if context.ranks.is_main and not result.is_stopped:
            _record_measurements(context, result)
            _save(context, model, result)
    if any(context.ranks.gather(bool(stop_signals.received))):
        stop_signals.received = stop_signals.received or "a signal to another process of this run"
    stop_signals.raise_if_received()
    return model


def _model_that_fits(context: RunContext) -> tuple[PeftModel, int]:
    """A new model, checked, and its micro-batch; held by a smaller plan where that of the context does not fit after all.

    Raises OutOfMemory where none is left.
    """
    while True:
        model, failure = _try(context, lambda: _new_model(context))
        if model is not None:
            with timed(context.folder, "check"):
                alone = Alone(model, telling_rows(model, context.prepared.train), context.tokenizer)
                check_before_training(context, alone)
                update_plan(context.folder, padding_free=choose_padding_free(context, alone))
                del alone
            with timed(context.folder, "rehearsal"):
                micro_batch, failure = _try(context, partial(_find_micro_batch, context, model))
            if micro_batch is not None:
                return model, min(context.ranks.gather(micro_batch))
            del model
        free_memory()
        context.plan = smaller_plan(context.settings, context.base, context.plan, context.folder.is_begun, failure)
        update_plan(context.folder, **asdict(context.plan))


def _try(context: RunContext, make: Callable[[], Made]) -> tuple[Made | None, OutOfMemory]:
    """What `make` makes; None, and why, where the memory of any rank is too small for that."""
    failure, made = "", None
    try:
        made = make()
    except Exception as error:
        full = error if isinstance(error, OutOfMemory) else out_of_memory_behind(error)
        if full is None or context.plan.shards > 1:  # the others wait in a collective
            raise
        failure = str(full)
    failures = [*filter(None, context.ranks.gather(failure))]
    return (None if failures else made), OutOfMemory(*failures[:1])


def _find_micro_batch(context: RunContext, model: PeftModel) -> int:
    effective = context.settings.effective_batch_size
    wanted = min(context.plan.micro_batch, -(-effective // context.ranks.world_size))
    return find_micro_batch(model, context.prepared.train, context.tokenizer, wanted, effective)


def _new_model(context: RunContext) -> PeftModel:
    settings = context.settings
    (enable_full_determinism if settings.full_determinism else set_seed)(settings.seed)
    base = load_base_model(context)
    model = add_lora(base, lora_config(settings, base))
    checkpoint_blocks(model, context.plan.checkpointed_blocks)
    if context.hardware.device == "cpu":
        use_fast_dropout(model)
    return shard_if_planned(context, model)


def _surroundings(context: RunContext, model: PeftModel) -> Surroundings:
    """What the training reports to and obeys."""
    settings, answering_s = context.settings, 0.0
    if context.hardware.device == "cuda" or settings.max_hours:
        answering_s = check_generation(context, model)
    deadline = float("inf")
    if settings.max_hours:
        process_age_s = time.time() - psutil.Process().create_time()
        deadline = time.monotonic() - process_age_s + 3600 * settings.max_hours - 2 * answering_s - PUBLISHING_S
    curves = make_curves(context) if context.ranks.is_main else None
    live = live_figures(settings, PlanRecord.read(context.folder.plan)) if context.ranks.is_main else dict
    supervision = Supervision(
        stop_asked=lambda: stop_signals.received,
        report=lambda **progress: write_progress(context.folder, "train", **progress, **live()),
        keep_logged=curves.keep if curves else lambda: None,
        micro_batch_changed=lambda size: update_plan(context.folder, micro_batch=size),
        score_answers=answer_scorer(context, model, curves),
        gives_up=context.shared.gives_up if context.shared else Supervision.gives_up,
        checkpoint_s=60 * settings.checkpoint_minutes,
        deadline=deadline,
        grace_s=settings.grace_s,
    )
    reporters: list[Reporter] = []
    if context.ranks.is_main:
        reporters = [ProgressLines(lambda: describe_figures(live())), *([curves] if curves else []), *make_trackers(context)]
    return Surroundings(supervision, reporters, context.ranks)


def _record_measurements(context: RunContext, result: TrainingResult) -> None:
    plan, speed = PlanRecord.read(context.folder.plan), result.examples_per_s
    plan = replace(plan, measured_examples_per_s=round(speed, 3))
    if plan.predicted_examples_per_s:
        expected = plan.predicted_examples_per_s / plan.speed_factor
        plan = replace(plan, measured_speed_factor=round(speed / expected, 4))
    if context.hardware.device == "cuda":
        reserved, allocated = plan.peak_gib["training"], plan.peak_allocated_gib["training"]
        predicted = f"{plan.predicted_peak_gib or 0:.2f} GiB predicted"
        log.info("peak memory: %.2f GiB with a micro-batch of %d rows, %s", reserved, result.micro_batch, predicted)
        plan = replace(plan, measured_peak_gib=round(reserved, 2), measured_allocated_gib=round(allocated, 2))
    plan.write(context.folder.plan)


def _save(context: RunContext, model: PeftModel, result: TrainingResult) -> None:
    write_json(context.folder.history, result.history)
    record = _adapter_record(context, result)
    rows = None if is_sharded(model) else longest_batch(model, context.prepared.evaluation, context.tokenizer)
    files = {context.folder.adapter_record.name: record.dump()}
    save_adapter(model, context.tokenizer, context.folder.adapter, record.base_model, files, rows)


def _adapter_record(context: RunContext, result: TrainingResult) -> AdapterRecord:
    settings, decoding = context.settings, context.scoring.decoding
    return AdapterRecord(
        base_model=published_model_id(settings),
        seq2seq=context.seq2seq,
        chat=context.prepared.chat,
        chat_opening=context.prepared.opening,
        messages_column=context.prepared.columns.messages,
        input_column=context.prepared.columns.input,
        prompt_template=context.prepared.columns.template,
        preprocess=settings.preprocess,
        preprocess_sha256=context.prepared.preprocess_sha256,
        sealed=True,
        max_source_length=_max_source_length(context),
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        kept_special_tokens=decoding.kept,
        precision=context.plan.precision,
        quantization=context.plan.quantization,
        steps=result.step,
        adapter_step=result.adapter_step,
        total_steps=result.total_steps,
    )


def _max_source_length(context: RunContext) -> int | None:
    """Tokens of an input that a person allowed; None where it is what the model takes."""
    wanted = context.settings.max_source_length
    if wanted.isdecimal():
        return int(wanted)
    return None if wanted == "auto" else context.prepared.train_truncation.max_source_length
