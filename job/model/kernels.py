"""Layers that compute what the library's own do in fewer or faster kernels."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

from job.model.cpu_kernels import CpuLinear, rms_norm

EPSILONS = ("variance_epsilon", "eps", "epsilon")
"""Under which a norm of transformers keeps what it adds to the mean square."""
SAME = 1e-5
"""What a norm in float32 may differ by, relatively, from torch's: the order of its sums."""


def is_frozen_linear(layer: Any) -> bool:
    """Whether `layer` is a linear layer as torch has it, neither quantised nor trained."""
    return type(layer) in (nn.Linear, CpuLinear) and not any(parameter.requires_grad for parameter in layer.parameters())


def fuse_gelu(model: nn.Module) -> None:
    """Replaces T5's `gelu_new`, eight kernels, by torch's own tanh GELU: one kernel that keeps its input alone."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def fuse_norms(model: nn.Module, device: str) -> None:
    """Makes norms by the root mean square one function: torch's own on a GPU, where it is one kernel instead of eight, else ours.

    What they put out is rounded once instead of twice.

    Which modules are such norms is tried out: T5's and Llama's are, Gemma's, which adds 1 to its weight, isn't.
    """
    module: Any
    for module in model.modules():
        epsilon = next((name for name in EPSILONS if isinstance(getattr(module, name, None), float)), None)
        if epsilon and _is_rms_norm(module, epsilon):
            half = _with_weight(module, torch.ones(len(module.weight), dtype=torch.float16, device="cpu"))
            module.__class__ = _fused(type(module), epsilon, half.dtype == torch.float16, on_cpu=device == "cpu")


def _is_rms_norm(module: Any, epsilon: str) -> bool:
    """Whether `module` puts out what `F.rms_norm` does."""
    takes_rows_alone = len(inspect.signature(module.forward).parameters) == 1  # others take a gate as well
    if not takes_rows_alone or [name for name, _ in module.named_parameters()] != ["weight"] or module.weight.dim() != 1:
        return False
    weight = _rows(module)[0]
    try:
        found = _with_weight(module, weight)
    except RuntimeError:  # it is no norm
        return False
    expected = F.rms_norm(_rows(module), weight.shape, weight, getattr(module, epsilon))
    return isinstance(found, Tensor) and found.shape == expected.shape and torch.allclose(found, expected, rtol=SAME, atol=SAME)


def _with_weight(module: Any, weight: Tensor) -> Tensor:
    """What `module` puts out, on the CPU, for some rows in float32 if it has this weight."""
    return functional_call(module, {"weight": weight}, (_rows(module),))


def _rows(module: Any) -> Tensor:
    """Two rows that a norm takes, always the same."""
    return torch.randn(2, len(module.weight), generator=torch.Generator().manual_seed(0), device="cpu")


def _fused(kind: Any, epsilon: str, narrows: bool, on_cpu: bool) -> Any:
    """A subclass of `kind` that computes `F.rms_norm`, on a CPU with a kernel of our own where the weight is frozen.

    narrows: whether `kind` casts wider rows to the type of its weight, as T5's does in float16, where what its blocks add up is
    float32.
    """

    def forward(norm: Any, rows: Tensor) -> Tensor:
        if rows.dtype == norm.weight.dtype:
            if on_cpu and not norm.weight.requires_grad:
                return rms_norm(rows, norm.weight, getattr(norm, epsilon))
            return F.rms_norm(rows, norm.weight.shape, norm.weight, getattr(norm, epsilon))
        if narrows and rows.dtype == torch.float32:
            return F.rms_norm(rows, norm.weight.shape, eps=getattr(norm, epsilon)).to(norm.weight.dtype) * norm.weight
        return kind.forward(norm, rows)

    return type(kind.__name__, (kind,), {"forward": forward})


class WideOutput(nn.Linear):
    """A frozen layer, without a bias, that multiplies float16 and puts out float32, which nothing overflows: T5's `wo`.

    Tensor cores add up in float32 anyhow; a product of float32 weights takes up to eight times as long and twice the memory.
    """

    def forward(self, rows: Tensor) -> Tensor:
        if rows.dtype != self.weight.dtype:
            return F.linear(rows, self.weight)
        return _WideOutput.apply(rows, self.weight)


def narrow_wo(model: nn.Module) -> None:
    """Makes `wo` of a float16 T5 a `WideOutput`; transformers keeps its weights in float32."""
    if "wo" not in (getattr(model, "_keep_in_fp32_modules", None) or ()):
        return
    for name, module in model.named_modules():
        if name.endswith(".wo") and type(module) is nn.Linear and module.bias is None:
            module.weight.data = module.weight.data.half()
            module.__class__ = WideOutput


class _WideOutput(torch.autograd.Function):
    """The gradient, which the loss scale makes large, is divided by the largest of each row before it is narrowed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return wide_product(rows.flatten(0, -2), weight.T).view(*rows.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        flat = slope.flatten(0, -2)
        largest = torch.linalg.vector_norm(flat, ord=torch.inf, dim=-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
        gradient = wide_product((flat / largest).to(weight.dtype), weight).mul_(largest).to(weight.dtype)
        return gradient.view(*slope.shape[:-1], -1), None


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices in half precision, in float32."""
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
