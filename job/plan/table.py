"""A plan as a person reads it, and as a program does."""

from collections.abc import Sequence
from dataclasses import asdict

from job.plan.choose import Choice
from job.plan.memory import GIB

HEAD = ("GPU", "weights", "batch", "twice", "GiB", "examples/s", "hours", "USD", "")
SPREAD, MEASURED_SPREAD = (0.7, 2.0), (0.9, 1.15)
"""Hours are told as this range around what is expected: the second where an earlier run measured the speed."""


def render(choices: Sequence[Choice]) -> str:
    """The choices as a table, one GPU a row."""
    rows = [HEAD, *(_row(choice) for choice in choices)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows)
    return "\n".join("  ".join([*cells, row[-1]]).rstrip() for cells, row in zip(padded, rows, strict=True))


def render_one(choice: Choice, memory: dict[str, float]) -> str:
    """One choice in full. memory: GiB by what they are for."""
    gpu, way, (low, high) = choice.gpu, choice.way, hours(choice)
    lines = {
        "GPU": f"{gpu.name}, {gpu.memory_gib:.1f} GiB, compute capability {gpu.capability[0]}.{gpu.capability[1]}",
        "verdict": "fits" if choice.fits else "does not fit",
        "why": choice.reason,
        "rows at once": f"{way.micro_batch}, accumulation {choice.accumulation}",
        "computed twice": f"{way.checkpointed_blocks} blocks",
        "memory": f"{choice.peak_bytes / GIB:.2f} GiB",
        **{f"  {name}": f"{gib:.2f}" for name, gib in memory.items()},
        "speed": f"{choice.examples_per_s:.3g} examples/s, {'as measured before' if gpu.speed else f'if MFU is {gpu.mfu:.0%}'}",
        "time": f"{low:.2f} to {high:.2f} hours",
        "price": "not in the catalogue" if gpu.price_usd_per_hour is None else
        f"{low * gpu.price_usd_per_hour:.2f} to {high * gpu.price_usd_per_hour:.2f} USD at {gpu.price_usd_per_hour:.2f} an hour",
    }  # fmt: skip
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def hours(choice: Choice) -> tuple[float, float]:
    """The range of hours that the choice is told to take."""
    low, high = MEASURED_SPREAD if choice.gpu.speed else SPREAD
    return low * choice.hours, high * choice.hours


def as_dict(choice: Choice) -> dict:
    """A choice for `plan.json`."""
    told, price = hours(choice), choice.gpu.price_usd_per_hour
    return {
        "gpu": choice.gpu.name,
        "gpu_kind": choice.gpu.kind,
        "fits": choice.fits,
        **asdict(choice.way),
        "predicted_peak_gib": round(choice.peak_bytes / GIB, 2),
        "gpu_memory_gib": choice.gpu.memory_gib,
        "speed_factor": choice.gpu.speed or 1,
        "predicted_examples_per_s": round(choice.examples_per_s, 2),
        "predicted_hours": [round(number, 3) for number in told],
        "predicted_usd": None if price is None else [round(price * number, 2) for number in told],
        "price_usd_per_hour": price,
        "reason": choice.reason,
    }


def _row(choice: Choice) -> tuple[str, ...]:
    way = choice.way
    memory = f"{choice.peak_bytes / GIB:.1f} of {choice.gpu.memory_gib:.1f}"
    if not choice.fits:
        return (choice.gpu.name, "-", "-", "-", memory, "-", "-", "-", f"does not fit: {choice.reason}")
    weights = way.precision if way.quantization == "none" else f"{way.quantization}+{way.precision}"
    (low, high), price_usd = hours(choice), choice.gpu.price_usd_per_hour
    price = "?" if price_usd is None else f"{low * price_usd:.2f}-{high * price_usd:.2f}"
    return (
        choice.gpu.name, weights, f"{way.micro_batch} x {choice.accumulation}", str(way.checkpointed_blocks), memory,
        f"{choice.examples_per_s:.0f}" if choice.examples_per_s >= 10 else f"{choice.examples_per_s:.1f}",
        f"{low:.2f}-{high:.2f}", price, choice.reason,
    )  # fmt: skip
