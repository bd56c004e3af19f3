"""The fastest sound plan to train a model on a GPU, among those that fit its memory."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from job.plan.dimensions import ModelDimensions
from job.plan.gpu_catalogue import Gpu
from job.plan.memory import TrainingPlan, peak_bytes
from job.system.hardware import GIB

HALF_SPEED_TOKENS = 500
"""At this many tokens a micro-batch, a GPU reaches half of what it reaches with many: small ones leave it waiting."""
KERNELS_PER_BLOCK, LAUNCH_S = {"none": 155, "nf4": 210, "int8": 320}, 30e-6
"""A step of a small model, or of any on a fast GPU, takes as long as the host needs to launch its kernels from Python: beside an
H200 32 microseconds each for FLAN-T5 base, 30 for XL, 33 for XL in NF4 (bench/results/gpu-NVIDIA-H200.json). There are 2,500
for 16 blocks of FLAN-T5. bitsandbytes adds 6 to a linear layer in NF4 and 18 in int8, forward and backward, as its source has
them (0.50.2); a block has nine."""
WIDENING = {"none": (0.0, 0.0), "nf4": (2.5, 2.5), "int8": (0.0, 7.0)}
"""Bytes of memory traffic a quantised weight, forward and backward: NF4 reads half a byte and writes two, forward at the most, as
small micro-batches are multiplied without. int8 multiplies as it is,
forward; backward it reads one and writes two, then reads and writes these once more to scale them."""
ROUNDING = {"none": 0, "nf4": 0, "int8": 8.5}
"""Bytes a token, for each input and output of a quantised layer, forward: int8 rounds the one and widens the other, 7 and 10."""
BANDWIDTH_REACHED, FLOAT32_REACHED = 0.75, 0.7
"""Shares of a card's rates that such kernels, and products in plain float32, are expected to reach."""
USABLE = 0.96
"""Share of a GPU's memory that a plan may fill: what it predicts is off by some per cent."""
RECOMPUTATION = 0.5
"""Forward passes cost half of the rest of a step with a frozen base; checkpointing repeats them."""


@dataclass(frozen=True)
class Workload:
    """What is to be trained on: lengths in tokens, with special ones; a causal model's prompt and answer are one source."""

    longest: tuple[int, int]
    """Of source and target, as padded."""
    mean: tuple[float, float]
    row_passes: float
    """Rows that are trained on, each epoch counted."""
    effective_batch_size: int
    r: int = 16
    percentiles: tuple[tuple[int, int, int], ...] = ()
    """Median, 95th percentile and longest of the sources, and of the targets; for people."""


@dataclass(frozen=True)
class PlanConstraints:
    """What a person set; None and "auto" are left open."""

    quantization: str = "auto"
    precision: str = "auto"
    checkpointing: bool | None = None
    micro_batch: int | None = None
    gpus: int = 1
    """That a machine has of the kind."""
    shard_base: bool | None = None


@dataclass(frozen=True)
class PlanEstimate:
    """A training plan on a GPU, what it takes, and why it was chosen."""

    gpu: Gpu
    plan: TrainingPlan
    peak_bytes: float
    examples_per_s: float
    hours: float
    fits: bool
    reason: str
    accumulation: int
    """Micro-batches an optimizer step."""


def choose(dimensions: ModelDimensions, gpu: Gpu, workload: Workload, constraints: PlanConstraints) -> PlanEstimate:
    """The fastest plan that fits; where none does, the one that needs the least memory, with `fits` False.

    Unquantised weights come first, whole on each GPU or else spread over several; quantised ones where neither fits.
    """
    plans = candidate_plans(dimensions, gpu, workload, constraints)
    estimates = [_estimate(dimensions, gpu, workload, plan, constraints) for plan in plans]
    fitting = [estimate for estimate in estimates if estimate.fits]
    if not fitting:
        return min(estimates, key=lambda estimate: estimate.peak_bytes)
    unquantised = [estimate for estimate in fitting if estimate.plan.quantization == "none"]
    whole = [estimate for estimate in unquantised if estimate.plan.shards == 1]
    return max(whole or unquantised or fitting, key=lambda estimate: (estimate.examples_per_s, estimate.plan.micro_batch))


def candidate_plans(
    dimensions: ModelDimensions, gpu: Gpu, workload: Workload, constraints: PlanConstraints
) -> Iterator[TrainingPlan]:
    """Every plan that the constraints leave open, int8 only where it was asked for; of quantised weights none is sharded."""
    precision = gpu.precision if constraints.precision == "auto" else constraints.precision
    quantizations = ("none", "nf4") if constraints.quantization == "auto" else (constraints.quantization,)
    some = {None: range(dimensions.blocks + 1), True: (dimensions.blocks,), False: (0,)}[constraints.checkpointing]
    divisors = [size for size in range(1, workload.effective_batch_size + 1) if workload.effective_batch_size % size == 0]
    shards = {None: {1, constraints.gpus}, True: {constraints.gpus}, False: {1}}[constraints.shard_base]
    for quantization, parts in itertools.product(quantizations, shards):
        if quantization != "none" and parts > 1:
            continue
        for micro_batch in [constraints.micro_batch] if constraints.micro_batch else divisors:
            for blocks in some:
                yield TrainingPlan(precision, quantization, micro_batch, blocks, shards=parts)


def _estimate(
    dimensions: ModelDimensions, gpu: Gpu, workload: Workload, plan: TrainingPlan, constraints: PlanConstraints
) -> PlanEstimate:
    peak = peak_bytes(dimensions, plan, *workload.longest, workload.r)
    seconds = seconds_per_row(dimensions, gpu, workload, plan)
    fits = peak <= USABLE * gpu.memory_gib * GIB
    reason = _reason(dimensions, gpu, plan, constraints) if fits else _shortage(gpu, peak)
    accumulation = math.ceil(workload.effective_batch_size / plan.micro_batch)
    return PlanEstimate(gpu, plan, peak, 1 / seconds, workload.row_passes * seconds / 3600, fits, reason, accumulation)


def seconds_per_row(dimensions: ModelDimensions, gpu: Gpu, workload: Workload, plan: TrainingPlan) -> float:
    """Expected seconds that one row takes, in the middle of the range that a plan shows."""
    rate = gpu.dense_tflops.get(plan.precision, gpu.dense_tflops["fp32"]) * 1e12 * gpu.mfu
    recomputed = plan.checkpointed_blocks / dimensions.blocks
    flops = dimensions.training_flops(*workload.mean) * (1 + RECOMPUTATION * recomputed)
    waiting = 1 + HALF_SPEED_TOKENS / (plan.micro_batch * sum(workload.mean))
    computing = flops / rate * waiting + _quantised_s(dimensions, gpu, workload, plan, recomputed)
    if plan.precision == "fp16" and plan.quantization != "none":
        in_float32, float32_rate = flops * dimensions.in_float32 / dimensions.linears, gpu.dense_tflops["fp32"] * 1e12
        computing += max(0.0, in_float32 / (float32_rate * FLOAT32_REACHED) - in_float32 / rate)
    kernels = KERNELS_PER_BLOCK[plan.quantization] * dimensions.blocks * (1 + RECOMPUTATION * recomputed)
    launching = kernels * LAUNCH_S / plan.micro_batch
    return max(computing, launching) / (gpu.speed or 1)


def _quantised_s(dimensions: ModelDimensions, gpu: Gpu, workload: Workload, plan: TrainingPlan, recomputed: float) -> float:
    """Seconds a row that kernels take which widen quantised weights and round what is multiplied with them."""
    forward, backward = WIDENING[plan.quantization]
    quantised = dimensions.linears - (dimensions.in_float32 if plan.quantization == "int8" else 0)
    weights = quantised * (forward * (1 + recomputed) + backward) / plan.micro_batch
    of_a_stack = dimensions.linear_sides / len(dimensions.stacks)  # each sees its own tokens alone
    rows = sum(workload.mean) * of_a_stack * ROUNDING[plan.quantization] * (1 + recomputed)
    return (weights + rows) / (gpu.memory_gb_per_s * 1e9 * BANDWIDTH_REACHED)


def _shortage(gpu: Gpu, peak: float) -> str:
    return f"even the smallest plan needs {peak / GIB:.1f} GiB of {gpu.memory_gib:.1f}"


def _reason(dimensions: ModelDimensions, gpu: Gpu, plan: TrainingPlan, constraints: PlanConstraints) -> str:
    asked, parts = "as asked for", [plan.precision]
    if plan.precision != "bf16":
        no_bf16 = f"as capability {'.'.join(map(str, gpu.capability))} has no bf16"
        parts = [f"{plan.precision}, {no_bf16 if constraints.precision == 'auto' else asked}"]
    if plan.quantization != "none":
        no_room = "as unquantised weights do not fit"
        parts.append(f"{plan.quantization}, {no_room if constraints.quantization == 'auto' else asked}")
    if plan.checkpointed_blocks:
        parts.append(f"{plan.checkpointed_blocks} of {dimensions.blocks} blocks recomputed to save memory")
    if plan.shards > 1:
        parts.append(f"base sharded over {plan.shards} GPUs")
    if dimensions.is_estimate:
        parts.append("memory estimated, on the safe side")
    if gpu.speed:
        parts.append("speed as an earlier run of yours measured it")
    return "; ".join(parts)
