"""Fake tensors: a model's step without memory for it. All that touches torch's internals for that is here.

tests/plan/test_fake_tensors.py says in plain words when a new torch has moved one of them.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
from peft import PeftModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from job.model import cpu_kernels, fused_lora, kernels

__all__ = ["FakeTensorMode", "StorageTracker", "cuda_kernels", "drawing_nothing", "make_fake"]


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and the most that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._sizes: dict[int, int] = {}

    def track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key)

    def __torch_dispatch__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.track(leaf)
        return result


@contextlib.contextmanager
def cuda_kernels() -> Iterator[None]:
    """Dropout, norms and attention keep for the backward pass what CUDA's fused kernels keep, not what the CPU's would."""

    def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002, ARG001
        return torch.native_dropout(input, p, training)[0] if training and p else input

    def attention(  # noqa: PLR0913  the library's own signature
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,  # noqa: ARG001
    ) -> Tensor:  # fmt: skip
        """query: (batch, heads, length, width). Grouped keys and values are repeated, as transformers does."""
        repeats = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(repeats, dim=1) if repeats > 1 else tensor for tensor in (key, value))
        bias = attn_mask
        if bias is not None:
            bias = (bias.to(query.dtype) if bias.dtype == torch.bool else bias).expand(*query.shape[:2], -1, -1)
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]

    def rms_norm(rows: Tensor, normalized_shape: object, weight: Tensor | None = None, eps: float | None = None) -> Tensor:  # noqa: ARG001
        return _FusedNorm.apply(rows)

    def wide_product(left: Tensor, right: Tensor) -> Tensor:
        return left.new_empty(len(left), right.shape[1], dtype=torch.float32)

    functional = torch.nn.functional
    with contextlib.ExitStack() as patches:
        for owner, replacement in ((functional, dropout), (functional, rms_norm), (kernels, wide_product)):
            patches.enter_context(patch.object(owner, replacement.__name__, replacement))
        patches.enter_context(patch.object(fused_lora, "drop", fused_lora.drop_on_gpu))
        patches.enter_context(patch.object(fused_lora, "drop_slope", fused_lora.drop_slope_on_gpu))
        patches.enter_context(patch.object(functional, "scaled_dot_product_attention", attention))
        yield


def drawing_nothing() -> AbstractContextManager[object]:
    """The CPU's dropout asks for no random number, which fake tensors don't have."""
    return patch.object(cpu_kernels, "uniform", lambda: 0.5)


class _FusedNorm(torch.autograd.Function):
    """Keeps the rows, and for each a number in float32."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows, rows.new_empty(rows.shape[:-1], dtype=torch.float32))
        return torch.empty_like(rows)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # noqa: ARG004
        return torch.empty_like(slope)


def make_fake(model: PeftModel) -> None:
    """Puts fake CPU tensors in the place of meta ones. Shared ones stay shared, but the lm_head of a T5 v1.1 is its own."""
    made: dict[object, torch.nn.Parameter] = {}
    own_head = getattr(model.config, "is_gated_act", False)
    for name, module in model.named_modules():
        for key, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            identity = (id(parameter), own_head and name.endswith("lm_head"))
            if identity not in made:
                dtype = torch.float32 if parameter.requires_grad else parameter.dtype
                made[identity] = torch.nn.Parameter(torch.empty(parameter.shape, dtype=dtype), parameter.requires_grad)
            module._parameters[key] = made[identity]
        for key, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype)
