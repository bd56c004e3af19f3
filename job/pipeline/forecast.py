"""Settings, data and machine -> how to train: for a run the way that it takes, for `plan` a table of GPUs."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from job.config import configs
from job.config.settings import Settings
from job.data.prepare import Prepared
from job.data.tokens import token_lengths
from job.errors import OutOfMemory, SettingsError
from job.model.load import add_lora
from job.model.packing import can_pack
from job.plan.catalogue import Gpu, like, read_catalogue
from job.plan.choose import USABLE, Choice, Wish, Work, choose
from job.plan.measured import read_speeds
from job.plan.memory import GIB, Way, generation_bytes, loss_bytes, on_gpu, weights_bytes
from job.plan.shape import read_shape
from job.plan.simulate import Batch, simulate_training_step
from job.plan.table import as_dict, render, render_one
from job.system.hardware import Hardware, choose_precision

log = logging.getLogger(__name__)

PAD_TO = 8
ANSWERED_AT_ONCE, ANSWERED_ON_CPU = (256, 128, 64, 32, 16, 8), 32

Form = tuple[str, str]
"""Precision and quantisation of the base's weights."""


def measured_work(settings: Settings, prepared: Prepared, seq2seq: bool) -> Work:
    """The work that the prepared rows are; lengths in tokens, the longest as padded."""
    sources = token_lengths(prepared.train, "input_ids")
    targets = token_lengths(prepared.train, "labels") if seq2seq else np.zeros(1)
    percentiles = tuple(tuple(int(p) for p in np.percentile(lengths, (50, 95, 100))) for lengths in (sources, targets))
    mean = (float(sources.mean()), float(targets.mean()))
    return _work(settings, percentiles, mean, len(sources))


def assumed_work(settings: Settings, seq2seq: bool) -> Work:
    """The work that PLAN_SOURCE_LENGTHS, PLAN_TARGET_LENGTHS and PLAN_ROWS describe."""
    source, target = (
        tuple(int(part) for part in text.split("/")) for text in (settings.plan_source_lengths, settings.plan_target_lengths)
    )
    if not seq2seq:
        source, target = tuple(a + b for a, b in zip(source, target, strict=True)), (0, 0, 0)
    return _work(settings, (source, target), (_mean(source), _mean(target)), settings.plan_rows)


def _mean(percentiles: Sequence[int]) -> float:
    """The mean of lengths that lie evenly between half the median, the median, the 95th percentile and the longest."""
    median, high, longest = percentiles
    return 0.5 * 0.75 * median + 0.45 * (median + high) / 2 + 0.05 * (high + longest) / 2


def _work(settings: Settings, percentiles: tuple, mean: tuple[float, float], rows: int) -> Work:
    batch = settings.effective_batch_size
    longest = tuple(math.ceil(lengths[2] / PAD_TO) * PAD_TO for lengths in percentiles)
    passes = settings.max_steps * batch if settings.max_steps else rows * settings.num_train_epochs
    return Work(longest, mean, passes, batch, settings.lora_r, percentiles)


def choose_way(settings: Settings, hardware: Hardware, config: PreTrainedConfig, work: Work) -> tuple[Way, dict]:
    """The way to train on this machine, and what to keep of the choice in `plan.json`.

    Raises OutOfMemory if nothing fits the GPU, with the GPUs that would do, and SettingsError for what this model cannot do.
    """
    if settings.padding_free == "true" and not can_pack(config):
        raise SettingsError(f"PADDING_FREE=true: {config.model_type} models take padded rows only. Set PADDING_FREE=auto.")
    way, kept = _choose(settings, hardware, config, work)
    way = replace(way, padding_free=settings.padding_free != "false" and can_pack(config))
    return way, kept | asdict(way)


def _choose(settings: Settings, hardware: Hardware, config: PreTrainedConfig, work: Work) -> tuple[Way, dict]:
    if hardware.device == "cpu":
        quantization = "none" if settings.quantization == "auto" else settings.quantization
        shape = read_shape(config)
        blocks = shape.blocks if settings.gradient_checkpointing == "true" else 0
        micro_batch = settings.per_device_train_batch_size or settings.effective_batch_size
        return Way(choose_precision(settings.precision, hardware, shape.width), quantization, micro_batch, blocks), {}
    choice = choose(read_shape(config), this_gpu(settings, hardware), work, _wish(settings))
    if not choice.fits:
        raise OutOfMemory(
            f"MODEL_ID={settings.model_id} does not fit: {choice.reason}. {_what_would_fit(settings, config, work)}"
            " Or set a smaller MAX_SOURCE_LENGTH, or a smaller MODEL_ID."
        )
    log.info("plan: %s; micro-batch %d x %d, %.1f of %.1f GiB", choice.reason, choice.way.micro_batch, choice.accumulation,
             choice.peak_bytes / GIB, choice.gpu.memory_gib)  # fmt: skip
    return choice.way, as_dict(choice)


def rows_at_once(settings: Settings, hardware: Hardware, config: PreTrainedConfig, form: Form, longest: tuple[int, int]) -> int:
    """Rows to answer at once: as set, else as many as fit this GPU. What does not fit after all is halved when it is met.

    longest: input and answer, tokens.
    """
    if settings.per_device_eval_batch_size:
        return settings.per_device_eval_batch_size
    if hardware.device == "cpu":
        return ANSWERED_ON_CPU
    shape, way = read_shape(config), Way(*form, micro_batch=1, checkpointed_blocks=0)
    held = weights_bytes(shape, *form)
    for rows in ANSWERED_AT_ONCE:
        batch = Batch(rows, *longest)
        needed = held + max(generation_bytes(shape, way, batch), loss_bytes(shape, way, batch))
        if on_gpu(needed) <= USABLE * hardware.memory_bytes:
            return rows
    return ANSWERED_AT_ONCE[-1]


def this_gpu(settings: Settings, hardware: Hardware) -> Gpu:
    """The machine's GPU as an entry of the catalogue."""
    return _as_measured(settings, [like(hardware.name, hardware.memory_bytes / GIB, hardware.capability)])[0]


def tell_plan(settings: Settings, hardware: Hardware, config: PreTrainedConfig, work: Work, as_json: bool) -> str:
    """The plan of every GPU kind, or of PLAN_GPU alone and in full. Raises SettingsError for a GPU that the catalogue lacks."""
    gpus = read_catalogue()
    if settings.plan_gpu and settings.plan_gpu not in gpus:
        raise SettingsError(f"PLAN_GPU={settings.plan_gpu}: not in job/plan/gpus.toml, which has {', '.join(gpus)}.")
    chosen = _as_measured(settings, [gpus[settings.plan_gpu]] if settings.plan_gpu else list(gpus.values()))
    if hardware.device == "cuda" and not settings.plan_gpu:
        chosen.append(this_gpu(settings, hardware))
    choices = [choose(read_shape(config), gpu, work, _wish(settings, gpu)) for gpu in chosen]
    memory: dict[str, float] = {}
    if settings.plan_gpu:
        choices[0], memory = simulated(settings, config, work, choices[0])
    if as_json:
        return json.dumps([as_dict(choice) | ({"memory_gib": memory} if memory else {}) for choice in choices], indent=2)
    table = render_one(choices[0], memory) if settings.plan_gpu else render(choices)
    return f"{_describe(settings, config, work)}\n\n{table}"


def simulated(settings: Settings, config: PreTrainedConfig, work: Work, choice: Choice) -> tuple[Choice, dict[str, float]]:
    """`choice` with the peak that its training step has on fake tensors, and where the memory goes (GiB).

    Nothing is quantised in the simulation: what quantised weights save is counted.
    """
    shape, way = read_shape(config), choice.way
    batch = Batch(way.micro_batch, *work.longest)

    def adapt(model: PreTrainedModel) -> PeftModel:
        return add_lora(model, configs.lora_config(settings, model))

    step = simulate_training_step(config, adapt, configs.DTYPES[way.precision], batch, way.checkpointed_blocks)
    quantised = weights_bytes(shape, way.precision, "none") - weights_bytes(shape, way.precision, way.quantization)
    held, activations = step.weights - quantised, step.peak - step.weights
    answering = Batch(
        settings.per_device_eval_batch_size or ANSWERED_ON_CPU, work.longest[0], settings.max_new_tokens or work.longest[1] * 5 // 4
    )
    memory = {
        "weights and adapter": held / GIB,
        "optimizer and activations of the longest rows": activations / GIB,
        "CUDA context and fragmentation": (on_gpu(held + activations) - held - activations) / GIB,
        "the same in all by the formula of the table": choice.peak_bytes / GIB,
        f"answering {answering.rows} rows at once, after training": on_gpu(held + generation_bytes(shape, way, answering)) / GIB,
    }
    peak = on_gpu(held + activations)
    fits = peak <= USABLE * choice.gpu.memory_gib * GIB
    return replace(choice, peak_bytes=peak, fits=fits), {name: round(gib, 2) for name, gib in memory.items()}


def _as_measured(settings: Settings, gpus: list[Gpu]) -> list[Gpu]:
    """`gpus` with the speeds that earlier runs of this model left in OUTPUT_DIR."""
    speeds = read_speeds(settings.output_dir, settings.model_id)
    return [replace(gpu, speed=speeds.get(gpu.kind)) for gpu in gpus]


def _wish(settings: Settings, gpu: Gpu | None = None) -> Wish:
    checkpointing = {"auto": None, "true": True, "false": False}[settings.gradient_checkpointing]
    precision = settings.precision
    if gpu and precision not in gpu.dense_tflops:
        precision = "auto"
    return Wish(settings.quantization, precision, checkpointing, settings.per_device_train_batch_size)


def _what_would_fit(settings: Settings, config: PreTrainedConfig, work: Work) -> str:
    choices = [choose(read_shape(config), gpu, work, _wish(settings, gpu)) for gpu in read_catalogue().values()]
    fitting = [f"{choice.gpu.name} ({choice.way.quantization})" for choice in choices if choice.fits]
    return f"It would fit {', '.join(fitting)}." if fitting else "It fits no GPU of the catalogue."


def _describe(settings: Settings, config: PreTrainedConfig, work: Work) -> str:
    shape = read_shape(config)
    source, target = ("/".join(map(str, numbers)) + " tokens" for numbers in work.percentiles)
    lengths = f"inputs {source}, answers {target}" if shape.seq2seq else f"rows {source}"
    return (
        f"{settings.model_id}: {shape.parameters / 1e6:,.0f} million parameters, adapter {shape.adapter(work.r):,}\n"
        f"{work.rows:,.0f} rows in all epochs, effective batch {work.effective_batch_size}; {lengths} (median/95 %/longest)\n"
        'predicted, not measured; "twice": blocks computed twice to save memory'
    )
