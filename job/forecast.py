"""Settings, data and machine -> how to train: for a run the way that it takes, for `plan` a table of GPUs."""

import json
import logging
import math

from transformers import PreTrainedConfig

from job.data.prepare import Prepared
from job.errors import OutOfMemory, SettingsError
from job.hardware import Hardware, choose_precision
from job.plan.catalogue import Gpu, like, read_catalogue
from job.plan.choose import Wish, Work, choose
from job.plan.memory import GIB, Way
from job.plan.shape import read_shape
from job.plan.table import as_dict, render
from job.settings import Settings

log = logging.getLogger(__name__)

PAD_TO = 8


def measured_work(settings: Settings, prepared: Prepared, seq2seq: bool) -> Work:
    """The work that the prepared rows are; lengths in tokens, the longest as padded."""
    sources = [len(ids) for ids in prepared.train["input_ids"]]
    targets = [len(labels) for labels in prepared.train["labels"]] if seq2seq else [0]
    longest = tuple(math.ceil(max(lengths) / PAD_TO) * PAD_TO for lengths in (sources, targets))
    mean = tuple(sum(lengths) / len(lengths) for lengths in (sources, targets))
    return _work(settings, longest, mean, len(sources))


def assumed_work(settings: Settings, seq2seq: bool) -> Work:
    """The work that PLAN_SOURCE_LENGTHS, PLAN_TARGET_LENGTHS and PLAN_ROWS describe."""
    source, target = (
        [int(part) for part in text.split("/")] for text in (settings.plan_source_lengths, settings.plan_target_lengths)
    )
    if not seq2seq:
        source, target = [a + b for a, b in zip(source, target, strict=True)], [0, 0]
    return _work(settings, (source[1], target[1]), (source[0], target[0]), settings.plan_rows)


def _work(settings: Settings, longest: tuple[int, int], mean: tuple[float, float], rows: int) -> Work:
    batch = settings.effective_batch_size
    passes = settings.max_steps * batch if settings.max_steps else rows * settings.num_train_epochs
    return Work(longest, mean, passes, batch, settings.lora_r)


def choose_way(settings: Settings, hardware: Hardware, config: PreTrainedConfig, work: Work) -> tuple[Way, dict | None]:
    """The way to train on this machine, and what to keep of the choice in `plan.json` (None on a CPU, where nothing is planned).

    Raises OutOfMemory if nothing fits the GPU, with the GPUs that would do.
    """
    if hardware.device == "cpu":
        quantization = "none" if settings.quantization == "auto" else settings.quantization
        blocks = read_shape(config).blocks if settings.gradient_checkpointing == "true" else 0
        micro_batch = settings.per_device_train_batch_size or settings.effective_batch_size
        return Way(choose_precision(settings.precision, hardware), quantization, micro_batch, blocks), None
    choice = choose(read_shape(config), this_gpu(hardware), work, _wish(settings))
    if not choice.fits:
        raise OutOfMemory(
            f"MODEL_ID={settings.model_id} does not fit: {choice.reason}. {_what_would_fit(settings, config, work)}"
            " Or set a smaller MAX_SOURCE_LENGTH, or a smaller MODEL_ID."
        )
    log.info("plan: %s; micro-batch %d x %d, %.1f of %.1f GiB", choice.reason, choice.way.micro_batch, choice.accumulation,
             choice.peak_bytes / GIB, choice.gpu.memory_gib)  # fmt: skip
    return choice.way, as_dict(choice)


def this_gpu(hardware: Hardware) -> Gpu:
    """The machine's GPU as an entry of the catalogue."""
    return like(hardware.name, hardware.memory_bytes / GIB, hardware.capability)


def tell_plan(settings: Settings, hardware: Hardware, config: PreTrainedConfig, work: Work, as_json: bool) -> str:
    """The plan of every GPU kind, or of PLAN_GPU alone. Raises SettingsError for a GPU that the catalogue lacks."""
    gpus = read_catalogue()
    if settings.plan_gpu and settings.plan_gpu not in gpus:
        raise SettingsError(f"PLAN_GPU={settings.plan_gpu}: not in job/plan/gpus.toml, which has {', '.join(gpus)}.")
    chosen = [gpus[settings.plan_gpu]] if settings.plan_gpu else list(gpus.values())
    if hardware.device == "cuda" and not settings.plan_gpu:
        chosen.append(this_gpu(hardware))
    choices = [choose(read_shape(config), gpu, work, _wish(settings, gpu)) for gpu in chosen]
    if as_json:
        return json.dumps([as_dict(choice) for choice in choices], indent=2)
    return f"{_describe(settings, config, work)}\n\n{render(choices)}"


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
    source, target = (f"{mean:.0f} tokens, at most {longest}" for mean, longest in zip(work.mean, work.longest, strict=True))
    lengths = f"inputs {source}; answers {target}" if shape.seq2seq else f"rows {source}"
    return (
        f"{settings.model_id}: {shape.parameters / 1e6:,.0f} million parameters, adapter {shape.adapter(work.r):,}\n"
        f"{work.rows:,.0f} rows in all epochs, effective batch {work.effective_batch_size}; {lengths}\n"
        'predicted, not measured; "twice": blocks computed twice to save memory'
    )
