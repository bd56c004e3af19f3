"""What a run takes while it is under way: the GPU's memory and load, and the cost so far."""

import time
from collections.abc import Callable
from typing import Any

from job.config.settings import Settings
from job.pipeline.records import PlanRecord
from job.system.hardware import gpu_load, gpu_memory_gib

Figures = dict[str, Any]


def live_figures(settings: Settings, plan: PlanRecord) -> Callable[[], Figures]:
    """A function that gives the fields of status.json about machine and cost, what is not known left out.

    plan: with the seconds of the stages before this moment.
    """
    price, before_s, started = settings.gpu_hourly_cost or plan.price_usd_per_hour, sum(plan.seconds.values()), time.monotonic()

    def measure() -> Figures:
        memory, load = gpu_memory_gib(), gpu_load()
        hours = (before_s + time.monotonic() - started) / 3600
        found = {
            "gpu_memory_gib": memory and tuple(round(gib, 1) for gib in memory),
            "gpu_load_percent": load,
            "cost_usd": price and round(price * hours, 4),
        }
        return {name: value for name, value in found.items() if value is not None}

    return measure


def describe_figures(figures: Figures) -> str:
    """Those figures in words; "" where nothing is known."""
    memory, load, cost = (figures.get(name) for name in ("gpu_memory_gib", "gpu_load_percent", "cost_usd"))
    said = []
    if memory is not None:
        said.append(f"GPU {memory[0]:.1f} of {memory[1]:.1f} GiB" + (f", {load} % busy" if load is not None else ""))
    if cost is not None:
        said.append(f"{cost:.2f} USD so far")
    return ", ".join(said)
