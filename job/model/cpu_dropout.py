"""Dropout and attention on a CPU, where torch draws one random number after another, and its attention in bfloat16 is slow."""

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""A probability is rounded to a 65536th."""
BFLOAT16_ONE = 0x3F80
"""The bits of 1 in bfloat16."""


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
        kept = draws[: values.numel()].ge_(dropped - LEVELS // 2).to(torch.bool).view(values.shape)
        ctx.scale = LEVELS / (LEVELS - dropped)
        ctx.save_for_backward(kept)
        return _masked(values, kept, ctx.scale)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _masked(slope, kept, ctx.scale), None


def _masked(values: Tensor, kept: Tensor, scale: float) -> Tensor:
    """`values` times `scale` where `kept`, else zero. On a CPU `torch.where` and products of two types take four times as long."""
    if values.dtype == torch.bfloat16:
        return kept.to(torch.int16).mul_(BFLOAT16_ONE).view(torch.bfloat16).mul_(values).mul_(scale)
    return kept.view(torch.int8).to(values.dtype).mul_(scale).mul_(values)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float, scale: float = 1.0) -> Tensor:
    """Attention with dropout `p` of its weights.

    query, key, value: (rows, heads, length, width), keys and values of so many heads or a divisor of that; bias: what is added to
    the scores, or where to look (bool), None for causal attention. The result is (rows, length, heads, width).
    """
    if repeats := query.shape[1] // key.shape[1] - 1:
        key, value = (part.repeat_interleave(repeats + 1, dim=1) for part in (key, value))
    scores = (query * scale if scale != 1 else query) @ key.mT
    if bias is None:
        bias = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    scores = scores.masked_fill_(~bias, torch.finfo(scores.dtype).min) if bias.dtype == torch.bool else scores.add_(bias)
    return (dropout(scores.softmax(-1), p) @ value).transpose(1, 2)
