"""Whether a row's loss is the same beside longer ones as alone: else no number of a run would mean anything."""

import logging

import torch

from job.errors import SettingsError
from job.model.objective import Objective
from job.preflight.full_precision import in_float32
from job.preflight.memory import shorter
from job.preflight.rows_alone import Alone, evaluating
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory
from job.training.step import Rows

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Relative where the loss is above 1, in float32; as much as the proof allows at the end."""


def check_padding(alone: Alone) -> None:
    """Raises SettingsError if a row has another loss padded, beside longer ones, than alone."""
    tried = alone.rows
    while (measured := _measure(alone, tried)) is None:
        free_memory()
        if (cut := shorter(tried)) is None:
            return log.warning("padding: rows do not fit the memory in float32; it is not checked")
        tried = cut
    for beside, expected in zip(*measured, strict=True):
        if abs(beside - expected) > TOLERANCE * max(1.0, expected):
            raise SettingsError(
                f"MODEL_ID: in this version of transformers a {alone.model.config.model_type} gives a row another loss beside "
                f"longer ones ({beside:.5g}) than alone ({expected:.5g}), so that its answers would depend on their batch. "
                "Choose another model."
            )


def _measure(alone: Alone, rows: Rows) -> tuple[list[float], list[float]] | None:
    """The rows' losses together and each alone; None where that does not fit the memory."""
    model = alone.model
    try:
        with evaluating(model), in_float32(model), torch.inference_mode(), one_name_for_full_memory():
            together = Objective(model).of_rows(model, alone.collate(rows).to(model.device)).tolist()
        return together, [alone.given(row, wide=True).loss for row in rows]
    except torch.OutOfMemoryError:
        return None
