"""LoRA layers in half as many kernels, and in the type of their input: PEFT's own widen what a half precision base computes."""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from job.model import cpu_kernels
from job.model.patches import replace_forward
from job.system.onednn import linear

FUSED = ("Linear", "Linear4bit", "Linear8bitLt")
"""PEFT's layers, by their names, that add `lora_B(lora_A(dropout(rows))) * scaling` to what the base layer puts out."""


def fuse_lora(model: nn.Module) -> None:
    """Makes the LoRA layers of `model` compute what they add in one function, wherever it is this product alone."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and type(module).__name__ in FUSED:
            replace_forward(module, partial(_forward, module=module))


def _forward(forward: Any, rows: Tensor, *args: Any, module: Any, **kwargs: Any) -> Tensor:
    """What `module` puts out; its own `forward` computes that for adapters of other kinds, for several at once, or for none."""
    (name, *others) = module.active_adapters or [None]
    is_plain = name in module.lora_A and not (others or args or kwargs or module.lora_variant or module.lora_bias[name])
    if not is_plain or module.disable_adapters or module.merged:
        return forward(rows, *args, **kwargs)
    dropout = module.lora_dropout[name]
    p = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    down, up = (part[name].weight for part in (module.lora_A, module.lora_B))
    return _AddProduct.apply(module.base_layer(rows), rows, down, up, module.scaling[name], p)


class _AddProduct(torch.autograd.Function):
    """`base` plus `scale` times `rows`, with dropout `p`, times two matrices.

    base: (..., out); rows: (..., in); down: (rank, in); up: (out, rank), which have their gradients in their own type.
    """

    @staticmethod
    def forward(ctx: Any, base: Tensor, rows: Tensor, down: Tensor, up: Tensor, scale: float, p: float) -> Tensor:  # noqa: PLR0913
        ctx.shape, ctx.dtypes, ctx.p, kept = rows.shape, (down.dtype, up.dtype), p, None
        rows = rows.flatten(0, -2)
        if p:
            rows, kept, rest = drop(rows, p)
            scale *= rest
        ctx.scale, down, up = scale, (down * scale).to(rows.dtype), up.to(rows.dtype)
        hidden = linear(rows, down)
        ctx.save_for_backward(rows, kept, hidden, down, up)
        flat = base.flatten(0, -2)
        found = torch.addmm(flat, hidden, up.T) if base.dtype == rows.dtype else flat + (hidden @ up.T).to(base.dtype)
        return found.view(base.shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        rows, kept, hidden, down, up = ctx.saved_tensors
        flat = slope.flatten(0, -2).to(rows.dtype)
        hidden_slope = linear(flat, up.T)
        down_slope = _product(hidden_slope.T, rows, ctx.dtypes[0]).mul_(ctx.scale)
        up_slope = _product(flat.T, hidden, ctx.dtypes[1])
        rows_slope = None
        if ctx.needs_input_grad[1]:
            rows_slope = linear(hidden_slope, down.T)
            rows_slope = (rows_slope if kept is None else drop_slope(rows_slope, kept, ctx.p)).view(ctx.shape)
        return slope, rows_slope, down_slope, up_slope, None, None


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The product of two matrices, in `dtype`; on a GPU never rounded to less than float32."""
    if left.is_cuda and dtype == torch.float32 != left.dtype:
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)


def drop(rows: Tensor, p: float) -> tuple[Tensor, Tensor, float]:
    """`rows` with a share `p` of them zero, what the others have yet to be multiplied by, and which are kept."""
    if rows.device.type == "cpu":
        kept, scale = cpu_kernels.draw(rows, p)
        return cpu_kernels.masked(rows, kept), kept, scale
    dropped, kept = torch.native_dropout(rows, p, train=True)
    return dropped, kept, 1.0


def drop_slope(slope: Tensor, kept: Tensor, p: float) -> Tensor:
    """The gradient of what `drop` was given, from that of what it put out."""
    if slope.device.type == "cpu":
        return cpu_kernels.masked(slope, kept)
    return torch.ops.aten.native_dropout_backward(slope, kept, 1 / (1 - p))
