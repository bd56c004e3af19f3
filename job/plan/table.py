"""A plan as a person reads it, and as a program does."""

from collections.abc import Sequence
from dataclasses import asdict

from job.plan.choose import PlanEstimate, Workload
from job.plan.dimensions import ModelDimensions
from job.system.console import tabulate
from job.system.hardware import GIB

HEAD = ("GPU", "weights", "batch", "recomputed", "GiB", "examples/s", "hours", "USD", "")
ESTIMATED = "\nmemory is an estimate on the safe side: for models of this kind no formula was measured"
RANGE, MEASURED_RANGE = (0.7, 2.0), (0.9, 1.15)
"""Of the hours, around what is expected: the second where an earlier run measured the speed."""


def describe(model_id: str, dimensions: ModelDimensions, workload: Workload) -> str:
    """What the plan is for, above its table."""
    source, target = ("/".join(map(str, numbers)) + " tokens" for numbers in workload.percentiles)
    lengths = f"inputs {source}, answers {target}" if dimensions.seq2seq else f"rows {source}"
    return (
        f"{model_id}: {dimensions.parameters / 1e6:,.0f} million parameters, adapter {dimensions.adapter(workload.r):,}\n"
        f"{workload.row_passes:,.0f} rows in all epochs, effective batch {workload.effective_batch_size}; {lengths} "
        "(median/95 %/longest)\n"
        'predicted, not measured; "recomputed": blocks whose activations are recomputed to save memory'
        f"{ESTIMATED if dimensions.is_estimate else ''}"
    )


def render(estimates: Sequence[PlanEstimate]) -> str:
    """The estimates as a table, one GPU a row."""
    return tabulate([HEAD, *(_row(estimate) for estimate in estimates)])


def render_one(estimate: PlanEstimate, memory: dict[str, float]) -> str:
    """One estimate in full. memory: GiB by what they are for."""
    gpu, plan, (low, high) = estimate.gpu, estimate.plan, hours(estimate)
    price = "not in the catalogue"
    if gpu.price_usd_per_hour is not None:
        usd = [hours * gpu.price_usd_per_hour for hours in (low, high)]
        price = f"{usd[0]:.2f} to {usd[1]:.2f} USD at {gpu.price_usd_per_hour:.2f} an hour"
    lines = {
        "GPU": f"{gpu.name}, {gpu.memory_gib:.1f} GiB, compute capability {gpu.capability[0]}.{gpu.capability[1]}",
        "verdict": "fits" if estimate.fits else "does not fit",
        "why": estimate.reason,
        "micro-batch": f"{plan.micro_batch} rows, accumulation {estimate.accumulation}",
        "recomputed": f"{plan.checkpointed_blocks} blocks",
        "memory": f"{estimate.peak_bytes / GIB:.2f} GiB",
        **{f"  {name}": f"{gib:.2f}" for name, gib in memory.items()},
        "speed": f"{estimate.examples_per_s:.3g} examples/s, {'as measured before' if gpu.speed else f'if MFU is {gpu.mfu:.0%}'}",
        "time": f"{low:.2f} to {high:.2f} hours",
        "price": price,
    }
    return tabulate(list(lines.items()))


def hours(estimate: PlanEstimate) -> tuple[float, float]:
    """The range of hours that training is expected to take."""
    low, high = MEASURED_RANGE if estimate.gpu.speed else RANGE
    return low * estimate.hours, high * estimate.hours


def as_dict(estimate: PlanEstimate) -> dict:
    """An estimate for `plan.json`."""
    price = estimate.gpu.price_usd_per_hour
    return {
        "gpu": estimate.gpu.name,
        "gpu_kind": estimate.gpu.kind,
        "fits": estimate.fits,
        **asdict(estimate.plan),
        "predicted_peak_gib": round(estimate.peak_bytes / GIB, 2),
        "gpu_memory_gib": estimate.gpu.memory_gib,
        "speed_factor": estimate.gpu.speed or 1.0,
        "predicted_examples_per_s": round(estimate.examples_per_s, 2),
        "predicted_hours": [round(number, 3) for number in hours(estimate)],
        "predicted_usd": None if price is None else [round(price * number, 2) for number in hours(estimate)],
        "price_usd_per_hour": price,
        "reason": estimate.reason,
    }


def _row(estimate: PlanEstimate) -> tuple[str, ...]:
    plan, gpu = estimate.plan, estimate.gpu
    memory = f"{estimate.peak_bytes / GIB:.1f} of {gpu.memory_gib:.1f}"
    if not estimate.fits:
        return (gpu.name, "-", "-", "-", memory, "-", "-", "-", f"does not fit: {estimate.reason}")
    weights = plan.precision if plan.quantization == "none" else f"{plan.quantization}+{plan.precision}"
    (low, high), price_usd = hours(estimate), gpu.price_usd_per_hour
    price = "?" if price_usd is None else f"{low * price_usd:.2f}-{high * price_usd:.2f}"
    speed = f"{estimate.examples_per_s:.0f}" if estimate.examples_per_s >= 10 else f"{estimate.examples_per_s:.1f}"
    batch = f"{plan.micro_batch} x {estimate.accumulation}"
    return gpu.name, weights, batch, str(plan.checkpointed_blocks), memory, speed, f"{low:.2f}-{high:.2f}", price, estimate.reason
