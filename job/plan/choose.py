"""The fastest sound way to train a model on a GPU, among those that fit its memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from job.plan.catalogue import Gpu
from job.plan.memory import GIB, Way, peak_bytes
from job.plan.shape import Shape

HALF_SPEED_TOKENS = 500
"""At this many tokens a micro-batch, a GPU reaches half of what it reaches with many: small ones leave it waiting."""
DEQUANTISING = {"none": 0, "nf4": 250, "int8": 1500}
"""Tokens of a micro-batch that could be computed in the time that dequantising the weights takes."""
KERNELS_PER_BLOCK, LAUNCH_S = 155, 8e-6
"""A step of a small model takes as long as the host needs to launch its kernels: 2,500 for 16 blocks of FLAN-T5."""
USABLE = 0.96
"""Share of a GPU's memory that a plan may fill: what it predicts is off by some per cent."""
RECOMPUTATION = 0.5
"""Forward passes cost half of the rest of a step with a frozen base; checkpointing repeats them."""


@dataclass(frozen=True)
class Work:
    """What is to be trained: lengths in tokens, with special ones; a causal model's prompt and answer are one source."""

    longest: tuple[int, int]
    """Of source and target, as padded."""
    mean: tuple[float, float]
    rows: float
    """That are learnt from, each epoch counted."""
    effective_batch_size: int
    r: int = 16
    percentiles: tuple[tuple[int, int, int], ...] = ()
    """Median, 95th percentile and longest of the sources, and of the targets; for people."""


@dataclass(frozen=True)
class Wish:
    """What a person set; None and "auto" are left to the choice."""

    quantization: str = "auto"
    precision: str = "auto"
    checkpointing: bool | None = None
    micro_batch: int | None = None


@dataclass(frozen=True)
class Choice:
    """A way to train, what it takes, and why it was chosen."""

    gpu: Gpu
    way: Way
    peak_bytes: float
    examples_per_s: float
    hours: float
    fits: bool
    reason: str
    accumulation: int
    """Micro-batches an optimizer step."""


def choose(shape: Shape, gpu: Gpu, work: Work, wish: Wish) -> Choice:
    """The fastest way that fits; where none does, the one that needs the least memory, with `fits` False."""
    ways = [_measure(shape, gpu, work, way) for way in possible_ways(shape, gpu, work, wish)]
    fitting = [choice for choice in ways if choice.fits]
    if not fitting:
        return min(ways, key=lambda choice: choice.peak_bytes)
    unquantised = wish.quantization == "auto" and [choice for choice in fitting if choice.way.quantization == "none"]
    return max(unquantised or fitting, key=lambda choice: (choice.examples_per_s, choice.way.micro_batch))


def possible_ways(shape: Shape, gpu: Gpu, work: Work, wish: Wish) -> Iterator[Way]:
    """Every way that the person's wish leaves open, int8 only where it was asked for."""
    precision = gpu.precision if wish.precision == "auto" else wish.precision
    quantizations = ("none", "nf4") if wish.quantization == "auto" else (wish.quantization,)
    some = {None: range(shape.blocks + 1), True: (shape.blocks,), False: (0,)}[wish.checkpointing]
    divisors = [size for size in range(1, work.effective_batch_size + 1) if work.effective_batch_size % size == 0]
    for quantization in quantizations:
        for micro_batch in [wish.micro_batch] if wish.micro_batch else divisors:
            for blocks in some:
                yield Way(precision, quantization, micro_batch, blocks)


def _measure(shape: Shape, gpu: Gpu, work: Work, way: Way) -> Choice:
    peak = peak_bytes(shape, way, *work.longest, work.r)
    seconds = row_seconds(shape, gpu, work, way)
    fits = peak <= USABLE * gpu.memory_gib * GIB
    reason, accumulation = _reason(shape, gpu, way, peak, fits), work.effective_batch_size // way.micro_batch
    return Choice(gpu, way, peak, 1 / seconds, work.rows * seconds / 3600, fits, reason, accumulation)


def row_seconds(shape: Shape, gpu: Gpu, work: Work, way: Way) -> float:
    """Expected seconds that one row takes, in the middle of the range that a plan tells."""
    rate = gpu.dense_tflops.get(way.precision, gpu.dense_tflops["fp32"]) * 1e12 * gpu.mfu
    flops = shape.training_flops(*work.mean) * (1 + RECOMPUTATION * way.checkpointed_blocks / shape.blocks)
    tokens = way.micro_batch * sum(work.mean)
    waiting = 1 + (HALF_SPEED_TOKENS + DEQUANTISING[way.quantization]) / tokens
    launching = KERNELS_PER_BLOCK * shape.blocks * LAUNCH_S / way.micro_batch
    return max(flops / rate * waiting, launching) / (gpu.speed or 1)


def _reason(shape: Shape, gpu: Gpu, way: Way, peak: float, fits: bool) -> str:
    if not fits:
        return f"even the smallest way needs {peak / GIB:.1f} GiB of {gpu.memory_gib:.1f}"
    parts = [
        "bf16" if way.precision == "bf16" else f"{way.precision}, as capability {'.'.join(map(str, gpu.capability))} has no bf16"
    ]
    parts += [] if way.quantization == "none" else [f"{way.quantization}, as unquantised weights do not fit"]
    if way.checkpointed_blocks:
        parts.append(f"{way.checkpointed_blocks} of {shape.blocks} blocks computed twice to save memory")
    if gpu.speed:
        parts.append("speed as an earlier run of yours measured it")
    return "; ".join(parts)
