"""The loss, normalised so that splitting a batch never changes it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from job.labels import IGNORED


def summed_cross_entropy(logits: Tensor, labels: Tensor, shift: bool) -> Tensor:
    """Sum of the cross-entropies of all labels that are not -100, in float32 at least.

    logits: (batch, length, vocabulary); labels: (batch, length), int64. shift: whether logits at one place predict the
    label of the next (causal models).
    """
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(
        logits.flatten(0, 1).to(at_least_float32(logits)), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """float64 for float64, else float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def row_losses(logits: Tensor, labels: Tensor, shift: bool) -> Tensor:
    """Mean cross-entropy a label for each row: (batch,), float32. Arguments as in `summed_cross_entropy`."""
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    losses = F.cross_entropy(logits.transpose(1, 2).float(), labels, ignore_index=IGNORED, reduction="none")
    return losses.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)
