"""The command `plan`: what training would take on each kind of GPU. It needs no GPU and no weights, and leaves nothing behind."""

import itertools
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from job.config.inputs import base_model
from job.config.libraries import lora_config
from job.config.settings import DEMO, Settings
from job.errors import SettingsError, first_line
from job.model.load import BaseModel, is_seq2seq, load_config
from job.model.lora import add_lora
from job.pipeline.plan import CPU_EVAL_BATCH_SIZE, constraints, gpu_of, with_measured_speeds
from job.pipeline.prepare import model_spec, prepare_data
from job.pipeline.workload import assume_workload, measure_workload
from job.plan.choose import USABLE, PlanEstimate, Workload
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, read_catalogue
from job.plan.memory import Batch, generation_bytes, weights_bytes, with_overhead
from job.plan.model_catalogue import known_config
from job.plan.several import FLEETS, Fleet, estimate_fleet
from job.plan.simulate import simulate_training_step
from job.plan.table import as_dict, cheapest_within, describe, fleet_as_dict, render, render_deadline, render_one, render_several
from job.system.console import print_lines
from job.system.hardware import DTYPES, GIB, Hardware, detect

log = logging.getLogger(__name__)


def plan(settings: Settings, as_json: bool = False) -> None:
    """Prints the plan of every kind of GPU, or of PLAN_GPU alone and in full."""
    base = base_model(settings)
    config = known_config(settings.model_id) or load_config(base)
    workload = _workload(settings, base, config)
    dimensions, gpus = read_dimensions(config), _gpus(settings, detect(settings.device))
    several = [
        [(fleet, estimate_fleet(dimensions, gpu, workload, constraints(settings, gpu), fleet)) for fleet in FLEETS] for gpu in gpus
    ]
    memory: dict[str, float] = {}
    if settings.plan_gpu:
        fleet, estimate = several[0][0]
        estimate, memory = _simulated(settings, config, workload, estimate)
        several[0][0] = (fleet, estimate)
    if as_json:
        found = [_for_programs(of_kind) | ({"memory_gib": memory} if memory else {}) for of_kind in several]
        return print_lines([json.dumps(found, indent=2)])
    singles = [of_kind[0][1] for of_kind in several]
    table = render_one(singles[0], memory) if settings.plan_gpu else render(singles)
    told = [describe(settings.model_id, dimensions, workload), table, render_several(several, workload.effective_batch_size)]
    if settings.plan_hours:
        told.append(render_deadline(settings.plan_hours, cheapest_within(itertools.chain(*several), settings.plan_hours)))
    return print_lines(["\n\n".join(told)])


def _for_programs(of_kind: list[tuple[Fleet, PlanEstimate]]) -> dict:
    """One GPU of a kind, and below it several."""
    return as_dict(of_kind[0][1]) | {"several": [fleet_as_dict(*each) for each in of_kind]}


def _workload(settings: Settings, base: BaseModel, config: PreTrainedConfig) -> Workload:
    """That of the data, if there is data for this model; else an assumed one."""
    seq2seq = is_seq2seq(config, settings.task, base)
    if settings.train_data == DEMO and settings.model_id != DEMO:
        log.info("TRAIN_DATA is not set: lengths and rows are PLAN_SOURCE_LENGTHS, PLAN_TARGET_LENGTHS and PLAN_ROWS")
        return assume_workload(settings, seq2seq)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_data(settings, model_spec(settings, base, config), Path(folder) / "data")
        return measure_workload(settings, prepared, seq2seq)


def _gpus(settings: Settings, hardware: Hardware) -> list[Gpu]:
    """The GPUs to plan for, the machine's own last. Raises SettingsError for a PLAN_GPU that the catalogue lacks."""
    catalogue = read_catalogue()
    if settings.plan_gpu:
        if settings.plan_gpu not in catalogue:
            raise SettingsError(f"PLAN_GPU={settings.plan_gpu}: not in job/plan/gpus.toml, which has {', '.join(catalogue)}.")
        return with_measured_speeds(settings, [catalogue[settings.plan_gpu]])
    here = [gpu_of(settings, hardware)] if hardware.device == "cuda" else []
    return with_measured_speeds(settings, list(catalogue.values())) + here


def _simulated(
    settings: Settings, config: PreTrainedConfig, workload: Workload, estimate: PlanEstimate
) -> tuple[PlanEstimate, dict[str, float]]:
    """`estimate` with the peak that its training step has on fake tensors, and where the memory goes (GiB); without, if that fails.

    Nothing is quantised in the simulation: what quantised weights save is counted.
    """
    dimensions, chosen = read_dimensions(config), estimate.plan

    def adapt(model: PreTrainedModel) -> PeftModel:
        return add_lora(model, lora_config(settings, model))

    batch = Batch(chosen.micro_batch, *workload.longest)
    try:
        step = simulate_training_step(config, adapt, DTYPES[chosen.precision], batch, chosen.checkpointed_blocks)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:  # such as code that looks at the values of tensors
        log.warning(
            "PLAN_GPU: a step of this %s cannot be simulated (%s); its memory is the formula's",
            config.model_type,
            first_line(error),
        )
        return estimate, {}
    weights = [weights_bytes(dimensions, chosen.precision, quantization) for quantization in ("none", chosen.quantization)]
    held, activations = step.weights - (weights[0] - weights[1]), step.peak - step.weights
    peak = with_overhead(held + activations)
    answering = Batch(
        settings.per_device_eval_batch_size or CPU_EVAL_BATCH_SIZE,
        workload.longest[0],
        settings.max_new_tokens or workload.longest[1] * 5 // 4,
    )
    answering_bytes = with_overhead(held + generation_bytes(dimensions, chosen.precision, answering))
    memory = {
        "weights and adapter": held,
        "optimizer and activations of the longest rows": activations,
        "CUDA context and fragmentation": peak - held - activations,
        "total by the formula of the table": estimate.peak_bytes,
        f"answering {answering.rows} rows at once, after training": answering_bytes,
    }
    fits = peak <= USABLE * estimate.gpu.memory_gib * GIB
    return replace(estimate, peak_bytes=peak, fits=fits), {name: round(size / GIB, 2) for name, size in memory.items()}
