"""What a CPU computes faster than torch's own kernels do: products in float32, norms, dropout and attention with dropout."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from job.system.onednn import linear

LEVELS = 2**8
"""Whether an element is dropped is drawn in so many steps: a byte."""
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of an element."""


def use_onednn(model: PreTrainedModel) -> None:
    """Makes oneDNN compute the products of all float32 layers of `model`, which is frozen.

    Matrices that narrow rows, and a head of its own, are laid out column after column: so both passes read each matrix the way
    round that oneDNN is fast at, a quarter faster in the mean.
    """
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype == torch.float32:
            module.__class__ = CpuLinear
            is_narrow = module.in_features >= module.out_features or module is model.get_output_embeddings()
            if is_narrow and id(module.weight) not in embedded:
                module.weight.data = module.weight.data.T.contiguous().T


class CpuLinear(nn.Linear):
    """A layer whose products in float32 oneDNN computes."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the library's own name
        weight, bias = self.weight, self.bias
        is_trained = weight.requires_grad or (bias is not None and bias.requires_grad)
        return super().forward(input) if is_trained else _FrozenLinear.apply(input, weight, bias)


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return linear(slope, weight.T), None, None


def rms_norm(rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """`F.rms_norm` with a frozen weight, (width,), for `rows` of its type: (..., width).

    torch has no kernel for it on a CPU, and goes through the rows nine times forward and backward; this does five times.
    """
    return _RmsNorm.apply(rows, weight, epsilon)


class _RmsNorm(torch.autograd.Function):
    """Keeps the rows, and for each a number in float32."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        squares = torch.linalg.vecdot(wide, wide) if wide is rows else torch.linalg.vector_norm(wide, dim=-1).square_()
        inverse = squares.unsqueeze(-1).div_(rows.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(rows, inverse, weight)
        return _wide_times(rows, wide, inverse).mul_(weight.to(wide.dtype)).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        rows, inverse, weight = ctx.saved_tensors
        wide = rows.to(inverse.dtype)
        slope = _wide_times(slope, slope.to(wide.dtype), weight.to(wide.dtype))
        turned = torch.linalg.vecdot(slope, wide).unsqueeze(-1) * inverse.pow(3) / -rows.shape[-1]
        return slope.mul_(inverse).addcmul_(wide, turned).to(rows.dtype), None, None


def _wide_times(values: Tensor, wide: Tensor, factor: Tensor) -> Tensor:
    """`wide`, which is `values` widened, times `factor`: in its own place unless it is `values` themselves."""
    return wide * factor if wide is values else wide.mul_(factor)


class CpuDropout(nn.Dropout):
    """Dropout whose mask takes a byte an element and comes from torch's generator eight elements at a time."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the library's own name
        return dropout(input, self.p) if self.training else input


def dropout(values: Tensor, p: float) -> Tensor:
    """`values` with a share `p` of them zero and the others scaled so that the mean stays."""
    return _Dropout.apply(values, p) if p > 0 else values


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        kept, ctx.scale = draw(values, p)
        ctx.save_for_backward(kept)
        return masked(values, kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return masked(slope, kept).mul_(ctx.scale), None


def draw(values: Tensor, p: float) -> tuple[Tensor, float]:
    """Which of `values` are kept, 0 or -1 in int8, and what the kept ones are multiplied by so that the mean stays.

    `p` lies between two levels: which one is taken is drawn as well, so that `p` is the mean of all draws.
    """
    dropped = min(math.floor(p * LEVELS + uniform()), LEVELS - 1)
    draws = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None).view(torch.int8)
    return draws[: values.numel()].ge_(dropped - LEVELS // 2).neg_().view(values.shape), LEVELS / (LEVELS - dropped)


def uniform() -> float:
    """A number from 0 to 1 of torch's generator."""
    return torch.rand(()).item()


def masked(values: Tensor, kept: Tensor) -> Tensor:
    """`values` where `kept` is -1, all of its bits, and zero where it is 0. `torch.where` takes four times as long on a CPU."""
    bits = INTEGERS[values.element_size()]
    return kept.to(bits).bitwise_and_(values.contiguous().view(bits)).view(values.dtype)


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
