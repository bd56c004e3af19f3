"""LoRA layers in half as many kernels, and in bfloat16 beside a base in that: PEFT's own widen what they are given to float32."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from job.model import cpu_kernels
from job.model.kernels import is_frozen_linear, wide_product
from job.model.patches import replace_forward
from job.system.onednn import linear

FUSED = ("Linear", "Linear4bit", "Linear8bitLt")
"""PEFT's layers, by their names, that add `lora_B(lora_A(dropout(rows))) * scaling` to what the base layer puts out."""


def fuse_lora(model: nn.Module) -> None:
    """Makes the LoRA layers of `model` one function each: what they add, and the base layer too if it is a plain frozen one."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and type(module).__name__ in FUSED:
            replace_forward(module, partial(_forward, module=module))


def _forward(forward: Any, rows: Tensor, *args: Any, module: Any, **kwargs: Any) -> Tensor:
    """What `module` puts out; its own `forward` computes that for adapters of other kinds, for several at once, or for none.

    And beside float16, which holds neither the smallest gradients nor, loss-scaled, the largest.
    """
    (name, *others) = module.active_adapters or [None]
    is_plain = name in module.lora_A and not (others or args or kwargs or module.lora_variant or module.lora_bias[name])
    if not is_plain or module.disable_adapters or module.merged or rows.dtype == torch.float16 or rows.dim() < 2:
        return forward(rows, *args, **kwargs)
    dropout, base = module.lora_dropout[name], module.base_layer
    p = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    is_fused = is_frozen_linear(base)
    layer = Layer(base.weight if is_fused else None, base.bias if is_fused else None, module.scaling[name], p)
    given = None if is_fused else base(rows).flatten(0, -2)
    found = _LoraLinear.apply(rows.flatten(0, -2), given, module.lora_A[name].weight, module.lora_B[name].weight, layer)
    # Not in the function: LED changes its query in place, which a view from there forbids.
    return found.view(*rows.shape[:-1], found.shape[-1])


@dataclass(frozen=True)
class Layer:
    """What of a LoRA layer is not learnt."""

    weight: Tensor | None
    """(out, in), of a base layer that is computed here."""
    bias: Tensor | None
    scale: float
    p: float
    """Of the dropout."""


class _LoraLinear(torch.autograd.Function):
    """What a frozen layer puts out for `rows`, plus `layer.scale` times `rows`, with dropout, times two matrices.

    rows: (tokens, in); base: what the frozen layer puts out, (tokens, out), or None where `layer` has its weight; down: (rank, in);
    up: (out, rank). The latter have their gradients in their own type, and are narrowed to that of `rows`.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, base: Tensor | None, down: Tensor, up: Tensor, layer: Layer) -> Tensor:
        found, kept, rest = None if layer.weight is None else linear(rows, layer.weight, layer.bias), None, 1.0
        if layer.p:
            rows, kept, rest = drop(rows, layer.p)
        ctx.p, ctx.scale, ctx.dtypes = layer.p, layer.scale * rest, (down.dtype, up.dtype)
        down, up = _narrowed(down, ctx.scale, rows.dtype), up.to(rows.dtype)
        hidden = linear(rows, down)
        ctx.save_for_backward(rows, kept, hidden, down, up, layer.weight)
        return (base + hidden @ up.T).to(base.dtype) if found is None else found.addmm_(hidden, up.T)  # type: ignore[union-attr, operator]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        rows, kept, hidden, down, up, weight = ctx.saved_tensors
        flat = slope.to(rows.dtype)
        hidden_slope = linear(flat, up.T)
        down_slope = _product(hidden_slope.T, rows, ctx.dtypes[0]).mul_(ctx.scale)
        up_slope = _product(flat.T, hidden, ctx.dtypes[1])
        rows_slope = None
        if ctx.needs_input_grad[0]:
            rows_slope = linear(hidden_slope, down.T)
            rows_slope = rows_slope if kept is None else drop_slope(rows_slope, kept, ctx.p)
            rows_slope = rows_slope if weight is None else _plus_product(rows_slope, flat, weight.to(flat.dtype))
        return rows_slope, slope if weight is None else None, down_slope, up_slope, None


def _narrowed(matrix: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """`matrix` times `scale` in `dtype`, in one kernel."""
    return torch.mul(matrix, scale, out=matrix.new_empty(matrix.shape, dtype=dtype))


def _plus_product(values: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """`values`, in whose place this may be computed, plus the product of two matrices."""
    return linear(left, right.T).add_(values) if values.device.type == "cpu" else values.addmm_(left, right)


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The product of two matrices, in `dtype`; on a GPU never rounded to less than float32."""
    if left.is_cuda and dtype == torch.float32 != left.dtype:
        return wide_product(left, right)
    return (left @ right).to(dtype)


def drop(rows: Tensor, p: float) -> tuple[Tensor, Tensor, float]:
    """`rows` with a share `p` of them zero, which are kept, and what the others have yet to be multiplied by."""
    if rows.device.type != "cpu":
        return drop_on_gpu(rows, p)
    kept, scale = cpu_kernels.draw(rows, p)
    return cpu_kernels.masked(rows, kept), kept, scale


def drop_slope(slope: Tensor, kept: Tensor, p: float) -> Tensor:
    """The gradient of what `drop` was given, from that of what it put out."""
    return drop_slope_on_gpu(slope, kept, p) if slope.device.type != "cpu" else cpu_kernels.masked(slope, kept)


def drop_on_gpu(rows: Tensor, p: float) -> tuple[Tensor, Tensor, float]:
    """`drop` in one kernel."""
    return *torch.native_dropout(rows, p, train=True), 1.0


def drop_slope_on_gpu(slope: Tensor, kept: Tensor, p: float) -> Tensor:
    """`drop_slope` in one kernel."""
    return torch.ops.aten.native_dropout_backward(slope, kept, 1 / (1 - p))
