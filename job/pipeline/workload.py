"""Data and settings -> the workload that a plan is made for."""

import math
from collections.abc import Sequence

import numpy as np

from job.config.settings import Settings
from job.data.prepared import PreparedData
from job.data.token_lengths import token_lengths
from job.model.packing import PAD_TO_MULTIPLE_OF
from job.plan.choose import Workload

Percentiles = tuple[int, int, int]
"""Median, 95th percentile and longest, tokens."""


def measure_workload(settings: Settings, prepared: PreparedData, seq2seq: bool) -> Workload:
    """The workload that the prepared rows are."""
    sources = token_lengths(prepared.train, "input_ids")
    targets = token_lengths(prepared.train, "labels") if seq2seq else np.zeros(1)
    mean = (float(sources.mean()), float(targets.mean()))
    return _workload(settings, (_percentiles(sources), _percentiles(targets)), mean, len(sources))


def assume_workload(settings: Settings, seq2seq: bool) -> Workload:
    """The workload that PLAN_SOURCE_LENGTHS, PLAN_TARGET_LENGTHS and PLAN_ROWS describe."""
    source, target = _parse(settings.plan_source_lengths), _parse(settings.plan_target_lengths)
    if not seq2seq:
        source, target = (source[0] + target[0], source[1] + target[1], source[2] + target[2]), (0, 0, 0)
    return _workload(settings, (source, target), (_mean(source), _mean(target)), settings.plan_rows)


def _percentiles(lengths: np.ndarray) -> Percentiles:
    median, high, longest = np.percentile(lengths, (50, 95, 100))
    return int(median), int(high), int(longest)


def _parse(text: str) -> Percentiles:
    median, high, longest = map(int, text.split("/"))
    return median, high, longest


def _mean(percentiles: Sequence[int]) -> float:
    """The mean of lengths that lie evenly between half the median, the median, the 95th percentile and the longest."""
    median, high, longest = percentiles
    return 0.5 * 0.75 * median + 0.45 * (median + high) / 2 + 0.05 * (high + longest) / 2


def _workload(settings: Settings, percentiles: tuple[Percentiles, Percentiles], mean: tuple[float, float], rows: int) -> Workload:
    batch = settings.effective_batch_size
    source, target = (math.ceil(lengths[2] / PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF for lengths in percentiles)
    row_passes = settings.max_steps * batch if settings.max_steps else rows * settings.num_train_epochs
    return Workload((source, target), mean, row_passes, batch, settings.lora_r, percentiles)
