"""How to train on this machine: the plan, kept from a run's first step on, and how many rows to answer at once."""

import logging
from dataclasses import asdict, replace
from pathlib import Path

from transformers import PreTrainedConfig

from job.config.settings import Settings
from job.errors import JobError, OutOfMemory, SettingsError
from job.model.load import BaseModel, load_config
from job.pipeline.records import PlanRecord
from job.pipeline.run_folder import RunFolder
from job.plan.choose import USABLE, PlanConstraints, Workload, choose
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, closest_gpu, read_catalogue
from job.plan.memory import GIB, Batch, TrainingPlan, generation_bytes, loss_bytes, weights_bytes, with_overhead
from job.plan.several import Fleet, estimate_fleet
from job.plan.table import as_dict
from job.system.hardware import Hardware, choose_precision
from job.system.ranks import this_rank

log = logging.getLogger(__name__)

EVAL_BATCH_SIZES, CPU_EVAL_BATCH_SIZE = (256, 128, 64, 32, 16, 8), 32


def plan_run(
    settings: Settings, folder: RunFolder, hardware: Hardware, config: PreTrainedConfig, workload: Workload
) -> TrainingPlan:
    """How to train here, kept in plan.json. From the first step on it stays, so that a resumed run computes what it would have."""
    if folder.is_begun and folder.plan.exists():
        plan = PlanRecord.read(folder.plan).training_plan
        wanted = settings.per_device_train_batch_size
        return replace(plan, micro_batch=wanted) if wanted and wanted < plan.micro_batch else plan
    record = plan_for_machine(settings, hardware, config, workload)
    record.write(folder.plan)
    return record.training_plan


def plan_for_machine(settings: Settings, hardware: Hardware, config: PreTrainedConfig, workload: Workload) -> PlanRecord:
    """The best plan on this machine, with what it is expected to take.

    Raises OutOfMemory if nothing fits the GPU, with the GPUs that would do, and SettingsError for what this model cannot do.
    """
    if settings.shard_base == "true" and settings.quantization not in ("auto", "none"):
        raise SettingsError("SHARD_BASE=true shards unquantised weights only. Set QUANTIZATION=none, or SHARD_BASE=false.")
    if hardware.device == "cpu":
        record = PlanRecord(settings.model_id, **_plan_for_cpu(settings, hardware, config))
    else:
        record = PlanRecord(settings.model_id, **_plan_for_gpu(settings, hardware, config, workload))
    return replace(record, padding_free=settings.padding_free != "false")


def smaller_plan(settings: Settings, base: BaseModel, plan: TrainingPlan, is_begun: bool, failure: OutOfMemory) -> TrainingPlan:
    """The next plan that takes less memory than `plan`, of what the settings leave open: all blocks recomputed, then NF4.

    is_begun: whether steps were computed already, which other weights would not continue. Raises `failure` where none is left.
    """
    blocks = read_dimensions(load_config(base)).blocks
    if settings.gradient_checkpointing == "auto" and plan.checkpointed_blocks < blocks:
        log.warning("out of memory with one row at once: all %d blocks are recomputed from here on; the result is the same", blocks)
        return replace(plan, checkpointed_blocks=blocks)
    if settings.quantization == "auto" and plan.quantization == "none" and plan.shards == 1 and not is_begun:
        log.warning("out of memory with one row at once and all blocks recomputed: the base is quantised (nf4)")
        return replace(plan, quantization="nf4")
    raise failure


def _plan_for_cpu(settings: Settings, hardware: Hardware, config: PreTrainedConfig) -> dict:
    dimensions = read_dimensions(config)
    plan = TrainingPlan(
        precision=choose_precision(settings.precision, hardware, dimensions.width),
        quantization="none" if settings.quantization == "auto" else settings.quantization,
        micro_batch=settings.per_device_train_batch_size or settings.effective_batch_size,
        checkpointed_blocks=dimensions.blocks if settings.gradient_checkpointing == "true" else 0,
        shards=this_rank().world_size if settings.shard_base == "true" else 1,
    )
    return asdict(plan)


def _plan_for_gpu(settings: Settings, hardware: Hardware, config: PreTrainedConfig, workload: Workload) -> dict:
    fleet = _fleet(settings.nnodes, this_rank().world_size)
    estimate = estimate_fleet(read_dimensions(config), gpu_of(settings, hardware), workload, constraints(settings), fleet)
    if not estimate.fits:
        raise OutOfMemory(
            f"MODEL_ID={settings.model_id} does not fit: {estimate.reason}. {_what_would_fit(settings, config, workload)}"
            " Or set a smaller MAX_SOURCE_LENGTH, or a smaller MODEL_ID."
        )
    log.info(
        "plan: %s; micro-batch %d x %d, %.1f of %.1f GiB", estimate.reason, estimate.plan.micro_batch, estimate.accumulation,
        estimate.peak_bytes / GIB, estimate.gpu.memory_gib,
    )  # fmt: skip
    return as_dict(estimate)


def _fleet(machines: int, gpus: int) -> Fleet:
    """The GPUs of this run; which machines they are in is known where NNODES says it."""
    return Fleet(machines, gpus // machines) if gpus % machines == 0 else Fleet(1, gpus)


def _what_would_fit(settings: Settings, config: PreTrainedConfig, workload: Workload) -> str:
    dimensions = read_dimensions(config)
    estimates = [choose(dimensions, gpu, workload, constraints(settings, gpu)) for gpu in read_catalogue().values()]
    fitting = [f"{estimate.gpu.name} ({estimate.plan.quantization})" for estimate in estimates if estimate.fits]
    return f"It would fit {', '.join(fitting)}." if fitting else "It fits no GPU of the catalogue."


def choose_eval_batch_size(
    settings: Settings, hardware: Hardware, config: PreTrainedConfig, weights: tuple[str, str], longest: tuple[int, int]
) -> int:
    """Rows to answer at once: as set, else as many as fit this GPU. A batch that does not fit after all is halved when it fails.

    weights: precision and quantisation of the base. longest: input and answer, tokens.
    """
    if settings.per_device_eval_batch_size:
        return settings.per_device_eval_batch_size
    if hardware.device == "cpu":
        return CPU_EVAL_BATCH_SIZE
    dimensions, (precision, quantization) = read_dimensions(config), weights
    for size in EVAL_BATCH_SIZES:
        batch = Batch(size, *longest)
        answering = max(generation_bytes(dimensions, precision, batch), loss_bytes(dimensions, precision, batch))
        if with_overhead(weights_bytes(dimensions, precision, quantization) + answering) <= USABLE * hardware.free_bytes:
            return size
    return EVAL_BATCH_SIZES[-1]


def gpu_of(settings: Settings, hardware: Hardware) -> Gpu:
    """The machine's GPU as an entry of the catalogue, with the speed that earlier runs measured."""
    gpu = closest_gpu(hardware.name, hardware.memory_bytes / GIB, hardware.capability)
    gpu = replace(gpu, memory_gib=hardware.free_bytes / GIB)
    return with_measured_speeds(settings, [gpu])[0]


def with_measured_speeds(settings: Settings, gpus: list[Gpu]) -> list[Gpu]:
    """`gpus` with the speeds that earlier runs of this model left in OUTPUT_DIR."""
    speeds = _read_speeds(settings.output_dir, settings.model_id)
    return [replace(gpu, speed=speeds.get(gpu.kind)) for gpu in gpus]


def _read_speeds(output_dir: Path, model_id: str) -> dict[str, float]:
    """GPU kind of the catalogue -> how much faster than expected this model was trained there, by the newest run."""
    speeds = {}
    for path in sorted(output_dir.glob("*/plan.json"), key=lambda path: path.stat().st_mtime):
        try:
            plan = PlanRecord.read(path)
        except (OSError, JobError):
            continue
        if plan.model_id == model_id and plan.gpu_kind and plan.measured_speed_factor:
            speeds[plan.gpu_kind] = plan.measured_speed_factor
    return speeds


def constraints(settings: Settings, gpu: Gpu | None = None) -> PlanConstraints:
    """What the settings leave open; a precision that `gpu` lacks is left open as well."""
    checkpointing = {"auto": None, "true": True, "false": False}[settings.gradient_checkpointing]
    precision = settings.precision
    if gpu and precision not in gpu.dense_tflops:
        precision = "auto"
    sharding = {"auto": None, "true": True, "false": False}[settings.shard_base]
    micro_batch = settings.per_device_train_batch_size
    return PlanConstraints(settings.quantization, precision, checkpointing, micro_batch, shard_base=sharding)
