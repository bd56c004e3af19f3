"""What `doctor` checks of several ranks: what each found becomes one line, and some things they find out together."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from job.config.inputs import base_model
from job.config.settings import Settings
from job.errors import JobError
from job.model.load import load_config
from job.plan.dimensions import read_dimensions
from job.plan.several import GRADIENT_WIDTH
from job.system.hardware import DTYPES, choose_precision, detect
from job.system.peers import clock_difference_s, flops_per_s, link_bytes_per_s, ranks_that_see
from job.system.ranks import Ranks

SLOW = 0.75
"""Share of the fastest GPU's speed below which one is told: all wait for it."""
SKEW_S = 2


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    detail: str
    error: JobError | None = None


def try_check(name: str, check: Callable[[], str]) -> CheckResult:
    """What `check` found, or that it failed."""
    try:
        return CheckResult(name, check())
    except JobError as error:
        return CheckResult(name, str(error), error)


def together(found: list[CheckResult | None]) -> CheckResult:
    """What the ranks found, as one: the failures with their ranks, else each detail with how many ranks have it."""
    results = {rank: result for rank, result in enumerate(found) if result}
    told = {rank: result for rank, result in results.items() if result.error} or results
    first, ranks = next(iter(told.values())), defaultdict[str, list[str]](list)
    if len(results) == 1:
        return first
    for rank, result in told.items():
        ranks[result.detail].append(str(rank))
    parts = [f"rank {', '.join(have)}: {detail}" if first.error else f"{len(have)} x {detail}" for detail, have in ranks.items()]
    return replace(first, detail=" ".join(parts) if first.error else ", ".join(parts))


def _cards(settings: Settings, ranks: Ranks) -> str:
    """How fast each GPU computes now: a hot, throttled or shared one shows here."""
    hardware = detect(settings.device)
    dtype = DTYPES[choose_precision(settings.precision, hardware)] if hardware.device == "cuda" else DTYPES["fp32"]
    found = ranks.gather(flops_per_s(hardware.device, dtype) / 1e12)
    told = f"{min(found):.3g} to {max(found):.3g} TFLOPS"
    slow = [str(rank) for rank, speed in enumerate(found) if speed < SLOW * max(found)]
    return f"{told}; slow are ranks {', '.join(slow)}, all wait for them: nvidia-smi -q -d PERFORMANCE, CLOCK" if slow else told


def _link(settings: Settings, ranks: Ranks) -> str:
    rate = link_bytes_per_s(ranks, detect(settings.device).device)
    adapter = GRADIENT_WIDTH * read_dimensions(load_config(base_model(settings))).adapter(settings.lora_r)
    message_s = 2 * (ranks.world_size - 1) / ranks.world_size * adapter / rate
    return f"{rate / 1e9:.3g} GB/s each way; the adapter's gradient, {adapter / 1e6:.3g} MB, takes {1000 * message_s:.3g} ms a step"


def _clocks(_settings: Settings, ranks: Ranks) -> str:
    difference = clock_difference_s(ranks)
    advice = "; switch on NTP on each machine, or times in logs and curves mislead" if difference > SKEW_S else ""
    return f"within {difference:.3f} s of each other{advice}"


def _shared_folder(settings: Settings, ranks: Ranks) -> str:
    seen = ranks_that_see(settings.output_dir, ranks)
    if len(seen) == ranks.world_size:
        return f"{settings.output_dir} is the same for all ranks: any machine can be machine 0 next time"
    others = ", ".join(str(rank) for rank in range(ranks.world_size) if rank not in seen)
    return f"{settings.output_dir} is not shared with ranks {others}: fine, as long as machine 0 stays machine 0"


TOGETHER: dict[str, Callable[[Settings, Ranks], str]] = {
    "cards": _cards, "link": _link, "clocks": _clocks, "shared folder": _shared_folder
}  # fmt: skip
"""The checks by name, in their order."""
