"""A plan as a person reads it, and as a program does."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from job.plan.choose import PlanEstimate, Workload
from job.plan.dimensions import ModelDimensions
from job.plan.several import Fleet
from job.system.console import tabulate
from job.system.hardware import GIB

HEAD = ("GPU", "weights", "batch", "recomputed", "GiB", "examples/s", "hours", "USD", "")
ESTIMATED = "\nmemory is an estimate on the safe side: for models of this kind no formula was measured"
SHOWN_IN_TIME = 3
SHARDED = "sharded"
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
    """One estimate in full, without speed and price where it does not fit. memory: GiB by what they are for."""
    gpu, plan, (low, high) = estimate.gpu, estimate.plan, hours(estimate)
    price = "not in the catalogue"
    if gpu.price_usd_per_hour is not None:
        price = f"{_usd(estimate, 0)} to {_usd(estimate, 1)} USD at {gpu.price_usd_per_hour:.2f} an hour"
    lines = {
        "GPU": f"{gpu.name}, {gpu.memory_gib:.1f} GiB, compute capability {gpu.capability[0]}.{gpu.capability[1]}",
        "verdict": "fits" if estimate.fits else "does not fit",
        "why": estimate.reason,
        "micro-batch": f"{plan.micro_batch} rows, accumulation {estimate.accumulation}",
        "recomputed": f"{plan.checkpointed_blocks} blocks",
        "memory": f"{estimate.peak_bytes / GIB:.2f} GiB",
        **{f"  {name}": f"{gib:.2f}" for name, gib in memory.items()},
    }
    trains = {
        "speed": f"{estimate.examples_per_s:.3g} examples/s, {'as measured before' if gpu.speed else f'if MFU is {gpu.mfu:.0%}'}",
        "time": f"{low:.2f} to {high:.2f} hours",
        "price": price,
    }
    return tabulate(list((lines | trains if estimate.fits else lines).items()))


def render_several(estimates: Sequence[Sequence[tuple[Fleet, PlanEstimate]]], batch_size: int) -> str:
    """Several GPUs of each kind, a kind a row: rows a second, and the USD of the whole training where it takes longest."""
    head = ["GPU", *(str(fleet) for fleet, _ in estimates[0])]
    rows = [[of_kind[0][1].gpu.name, *(_cell(estimate) for _, estimate in of_kind)] for of_kind in estimates]
    told = [
        "several GPUs, in one machine or in two: examples/s of all together, USD of the training at its slowest",
        f"with an effective batch of {batch_size} (EFFECTIVE_BATCH_SIZE) more than {batch_size} GPUs are idle in part",
    ]
    if any(SHARDED in cell for row in rows for cell in row):
        told.append(f'"{SHARDED}": the base is spread over all of them (SHARD_BASE); QUANTIZATION=nf4 lets each hold it whole')
    return "\n".join([*told, tabulate([head, *rows])])


def cheapest_within(estimates: Iterable[tuple[Fleet, PlanEstimate]], deadline_h: float) -> list[tuple[Fleet, PlanEstimate]]:
    """Those that fit, and end in time even at their slowest; the cheapest first, and of those the fastest."""
    in_time = [(fleet, one) for fleet, one in estimates if one.fits and hours(one)[1] <= deadline_h]
    priced = [(price * one.hours, one.hours, fleet, one) for fleet, one in in_time if (price := one.gpu.price_usd_per_hour)]
    return [(fleet, one) for *_, fleet, one in sorted(priced, key=lambda found: found[:2])]


def render_deadline(deadline_h: float, in_time: Sequence[tuple[Fleet, PlanEstimate]]) -> str:
    """The cheapest that meet a deadline, or that none does."""
    if not in_time:
        return f"within {deadline_h:g} hours: none of these. Allow more with PLAN_HOURS, or train fewer rows or epochs"
    told = [f"{fleet.of(one.gpu.name)} ({hours(one)[1]:.2f} h, {_usd(one, 1)} USD)" for fleet, one in in_time[:SHOWN_IN_TIME]]
    return f"cheapest within {deadline_h:g} hours, at their slowest: {', then '.join(told)}"


def fleet_as_dict(fleet: Fleet, estimate: PlanEstimate) -> dict:
    """Several GPUs, for programs."""
    shown = ("fits", "quantization", "precision", "micro_batch", "checkpointed_blocks", "shards", "predicted_peak_gib",
             "predicted_examples_per_s", "predicted_hours", "predicted_usd")  # fmt: skip
    told = as_dict(estimate)
    return asdict(fleet) | {name: told[name] for name in shown}


def _cell(estimate: PlanEstimate) -> str:
    if not estimate.fits:
        return "-"
    how = SHARDED if estimate.plan.shards > 1 else estimate.plan.quantization.removesuffix("none")
    return f"{_speed(estimate)}/s {_usd(estimate, 1)} {how}".rstrip()


def _usd(estimate: PlanEstimate, end: int) -> str:
    """The price at the lower (0) or upper (1) end of the hours."""
    price = estimate.gpu.price_usd_per_hour
    return "?" if price is None else f"{hours(estimate)[end] * price:.2f}"


def _speed(estimate: PlanEstimate) -> str:
    return f"{estimate.examples_per_s:.0f}" if estimate.examples_per_s >= 10 else f"{estimate.examples_per_s:.1f}"


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
    low, high = hours(estimate)
    price = "?" if gpu.price_usd_per_hour is None else f"{_usd(estimate, 0)}-{_usd(estimate, 1)}"
    batch, blocks, speed = f"{plan.micro_batch} x {estimate.accumulation}", str(plan.checkpointed_blocks), _speed(estimate)
    return gpu.name, weights, batch, blocks, memory, speed, f"{low:.2f}-{high:.2f}", price, estimate.reason
