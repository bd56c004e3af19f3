"""A model in float32 with the weights that it has in half precision: what every check compares with."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from job.model.lora import HALF
from job.system.onednn import linear
from job.system.quick_bitsandbytes import bitsandbytes

MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__)


@contextlib.contextmanager
def in_float32(model: nn.Module) -> Iterator[Callable[[], TorchFunctionMode]]:
    """While this holds, `model` computes in float32 with the weights that it has; gives the mode that does, for recomputing.

    Linear layers widen theirs for a moment only; all other weights, fused experts among them, are widened until the end. Raises
    torch.OutOfMemoryError.
    """
    frozen = [parameter for parameter in model.parameters() if parameter.dtype in HALF and not parameter.requires_grad]
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    small = {parameter: parameter.data for parameter in frozen if id(parameter) not in matrices}
    quantised: dict[Any, Any] = {
        module: module.compute_dtype for module in model.modules() if getattr(module, "compute_dtype", None) is not None
    }
    products = torch.get_float32_matmul_precision()
    try:
        for parameter in small:
            parameter.data = parameter.data.float()
        for module in quantised:
            module.compute_dtype = torch.float32
        torch.set_float32_matmul_precision("highest")
        with _int8_as_ever(model), _WidenProducts():
            yield _WidenProducts
    finally:
        torch.set_float32_matmul_precision(products)
        for parameter, data in small.items():
            parameter.data = data
        for module, dtype in quantised.items():
            module.compute_dtype = dtype


@contextlib.contextmanager
def _int8_as_ever(model: nn.Module) -> Iterator[None]:
    """While this holds, int8 layers compute without `_WidenProducts`: they round from float16, by a cast of their own."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear8bitLt)]

    def apart(forward: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return forward(rows)

    for layer in layers:
        layer.forward = partial(apart, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _WidenProducts(TorchFunctionMode):
    """Linear layers with half precision weights are computed by `_WideProduct`, and nothing is cast down to the type of these.

    A head that is tied to the embedding is one of them: what is looked up in it is widened.
    """

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        if function in MATMULS:
            args = tuple(factor.float() if factor.dtype in HALF else factor for factor in args)
        if function is F.embedding and args[1].dtype in HALF:
            return function(*args, **(kwargs or {})).float()
        if function is F.linear and args[1].dtype in HALF and not args[1].requires_grad:
            return _wide_linear(*args, **(kwargs or {}))
        if function is torch.Tensor.to and len(args) == 2 and args[1] in HALF and args[0].dtype == torch.float32:
            return args[0]  # T5 casts to the type of `wo`'s weights
        return function(*args, **(kwargs or {}))


def _wide_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002  F.linear's own name
    found = _WideProduct.apply(input, weight)
    return found if bias is None else found + bias.float()


class _WideProduct(torch.autograd.Function):
    """`rows @ weight.T` in float32; what is kept for the backward pass is the narrow weight, frozen."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(rows.float(), weight.float())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return linear(gradient, weight.float().T), None
