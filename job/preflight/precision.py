"""Whether the type of a base's weights is sound for this model and this data: the longest row in it, against float32."""

import logging

import torch
from torch.nn import functional as F

from job.errors import Diverged
from job.preflight.memory import shorter
from job.preflight.rows_alone import Alone, Measured
from job.system.hardware import free_memory

log = logging.getLogger(__name__)

LOSS_TOLERANCE, LEAST_COSINE = 0.05, 0.9
"""What rounding to half precision stays well within, for a sound model; an overflow is off by its whole size."""


def check_precision(alone: Alone) -> None:
    """Raises Diverged if loss or gradient of the longest row are not what they are in float32, and names the first overflow.

    The same weights are used in float32, a layer at a time, so that no second model is in memory but for fused experts, which are
    widened as a whole. A row that does not fit beside that is cut. Quantised layers stay quantised and compute in float32.
    """
    dtype = str(alone.model.dtype)
    tried = alone.rows[:1]
    while (measured := _in_both(alone, tried[0])) is None:
        free_memory()
        if (cut := shorter(tried)) is None:
            return log.warning("precision: a float32 comparison does not fit the memory; %s is not checked", dtype)
        tried = cut
    found, expected = measured
    cosine = F.cosine_similarity(found.gradient, expected.gradient, dim=0).item()
    is_near = abs(found.loss - expected.loss) <= LOSS_TOLERANCE * expected.loss and cosine >= LEAST_COSINE
    if is_near and not found.overflowing:
        return  # transformers clamps what overflows in a T5, to a finite but wrong value: so an overflow alone is too much
    where = f" {found.overflowing} is the first layer that overflows." if found.overflowing else ""
    raise Diverged(
        f"{dtype.removeprefix('torch.')} is not sound for this model: on the longest row the loss is {found.loss:.4g}, in "
        f"float32 {expected.loss:.4g}; the gradients' cosine is {cosine:.2f}.{where} Set PRECISION=fp32, or bf16 if the GPU has it."
    )


def _in_both(alone: Alone, row: dict[str, list[int]]) -> tuple[Measured, Measured] | None:
    """What `row` gives in the type of the weights and in float32; None where that does not fit the memory."""
    try:
        return alone.given(row, wide=False), alone.given(row, wide=True)
    except torch.OutOfMemoryError:
        return None
