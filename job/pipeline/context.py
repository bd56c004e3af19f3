"""What the steps of one run share, and the clock that they are measured by."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from job.config.settings import Settings
from job.data.prepared import PreparedData
from job.evaluation.evaluate import Scoring
from job.model.load import BaseModel
from job.pipeline.records import PlanRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.shared import Shared
from job.plan.memory import TrainingPlan
from job.system.hardware import Hardware, gpu_energy_j, peak_memory_gib, reset_peak_memory
from job.system.ranks import Ranks, this_rank

log = logging.getLogger(__name__)


@dataclass
class RunContext:
    """All that is known of a run before weights are loaded."""

    settings: Settings
    folder: RunFolder
    hardware: Hardware
    base: BaseModel
    seq2seq: bool
    """Whether the base model is an encoder-decoder; else it is causal."""
    tokenizer: PreTrainedTokenizerBase
    answering: GenerationConfig
    """How every answer begins and ends."""
    prepared: PreparedData
    plan: TrainingPlan
    """A smaller one replaces it where it does not fit after all."""
    scoring: Scoring
    """How answers are generated and scored."""
    ranks: Ranks = field(default_factory=this_rank)
    """The processes that this one trains and evaluates with."""
    shared: Shared | None = None
    """What other runs of this process have as well."""


@contextlib.contextmanager
def timed(folder: RunFolder, stage: str) -> Iterator[None]:
    """Adds the seconds that this takes, interrupted or not, and the GPU's joules to those of `stage` in plan.json; logs them.

    The stage's peak of the GPU's memory is its own.
    """
    reset_peak_memory()
    started, energy_before_j = time.perf_counter(), gpu_energy_j()
    try:
        yield
    finally:
        taken_s, energy_after_j = time.perf_counter() - started, gpu_energy_j()
        used_j = None if energy_before_j is None or energy_after_j is None else energy_after_j - energy_before_j
        if this_rank().is_main:
            with contextlib.suppress(OSError):  # a full disk has an error of its own, or will have one
                _add_to_plan(folder, stage, taken_s, used_j)
    log.info("%s took %s", stage, timedelta(seconds=round(taken_s)))


def _add_to_plan(folder: RunFolder, stage: str, taken_s: float, used_j: float | None) -> None:
    plan, peaks_gib = PlanRecord.read(folder.plan), peak_memory_gib()
    plan = replace(plan, seconds=plan.seconds | {stage: round(plan.seconds.get(stage, 0) + taken_s, 1)})
    if used_j is not None:
        plan = replace(plan, energy_j=plan.energy_j | {stage: round(plan.energy_j.get(stage, 0) + used_j, 1)})
    if peaks_gib is not None:
        peak, allocated = (
            before | {stage: max(before.get(stage, 0), round(gib, 3))}
            for before, gib in zip((plan.peak_gib, plan.peak_allocated_gib), peaks_gib, strict=True)
        )
        plan = replace(plan, peak_gib=peak, peak_allocated_gib=allocated)
    plan.write(folder.plan)


def update_plan(folder: RunFolder, **fields: Any) -> None:
    """Replaces some fields of plan.json. Rank 0 alone does."""
    if this_rank().is_main:
        replace(PlanRecord.read(folder.plan), **fields).write(folder.plan)
