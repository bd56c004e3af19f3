"""A plan as a person reads it, and as a program does."""

from collections.abc import Sequence
from dataclasses import asdict

from job.plan.choose import Choice
from job.plan.memory import GIB

HEAD = ("GPU", "weights", "batch", "twice", "GiB", "examples/s", "hours", "USD", "")
SPREAD = (0.7, 2.0)
"""Hours are told as this range around what is expected: speed has a stated aim, and is measured by the first run only."""


def render(choices: Sequence[Choice]) -> str:
    """The choices as a table, one GPU a row."""
    rows = [HEAD, *(_row(choice) for choice in choices)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows)
    return "\n".join("  ".join([*cells, row[-1]]).rstrip() for cells, row in zip(padded, rows, strict=True))


def as_dict(choice: Choice) -> dict:
    """A choice for `plan.json`."""
    low, high = (choice.hours * factor for factor in SPREAD)
    return {
        "gpu": choice.gpu.name,
        "fits": choice.fits,
        **asdict(choice.way),
        "predicted_peak_gib": round(choice.peak_bytes / GIB, 2),
        "gpu_memory_gib": choice.gpu.memory_gib,
        "predicted_examples_per_s": round(choice.examples_per_s, 2),
        "predicted_hours": [round(low, 3), round(high, 3)],
        "predicted_usd": None if choice.price_usd is None else [round(choice.price_usd * factor, 2) for factor in SPREAD],
        "reason": choice.reason,
    }


def _row(choice: Choice) -> tuple[str, ...]:
    way = choice.way
    memory = f"{choice.peak_bytes / GIB:.1f} of {choice.gpu.memory_gib:.1f}"
    if not choice.fits:
        return (choice.gpu.name, "-", "-", "-", memory, "-", "-", "-", f"does not fit: {choice.reason}")
    weights = way.precision if way.quantization == "none" else f"{way.quantization}+{way.precision}"
    low, high = (choice.hours * factor for factor in SPREAD)
    price = "?" if choice.price_usd is None else f"{choice.price_usd * SPREAD[0]:.2f}-{choice.price_usd * SPREAD[1]:.2f}"
    return (
        choice.gpu.name, weights, f"{way.micro_batch} x {choice.accumulation}", str(way.checkpointed_blocks), memory,
        f"{choice.examples_per_s:.0f}" if choice.examples_per_s >= 10 else f"{choice.examples_per_s:.1f}",
        f"{low:.2f}-{high:.2f}", price, choice.reason,
    )  # fmt: skip
