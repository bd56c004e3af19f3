"""Dropout and T5's attention on a CPU, where torch draws one random number after another and keeps four bytes for each."""

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""A probability is rounded to a 65536th."""


class CpuDropout(nn.Dropout):
    """Dropout whose mask takes a byte an element and comes from torch's generator four elements at a time."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the library's own name
        return dropout(input, self.p) if self.training else input


def dropout(values: Tensor, p: float) -> Tensor:
    """`values` with a share `p` of them zero and the others scaled by 1 / (1 - p)."""
    return _Dropout.apply(values, p) if p > 0 else values


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        dropped = round(p * LEVELS)
        draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = (draws[: values.numel()] >= dropped - LEVELS // 2).view(values.shape)
        ctx.scale = LEVELS / (LEVELS - dropped)
        ctx.save_for_backward(kept)
        return torch.where(kept, values, 0).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, slope, 0).mul_(ctx.scale), None


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, p: float) -> Tensor:
    """Attention with dropout `p` of its weights, not scaled, as T5 has it.

    query, key, value: (rows, heads, length, width); bias: what is added to the scores, or where to look (bool). The result is
    (rows, length, heads, width).
    """
    scores = query @ key.mT
    scores = scores.masked_fill_(~bias, torch.finfo(scores.dtype).min) if bias.dtype == torch.bool else scores.add_(bias)
    return (dropout(scores.softmax(-1), p) @ value).transpose(1, 2)
