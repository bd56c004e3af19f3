"""Products with a matrix of weights, on a CPU by the faster of the two libraries that torch has."""

import torch
from torch import Tensor
from torch.nn import functional as F

HAS_BOTH = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()
LEAST_PRODUCTS = 2**20
"""Multiplications from which on oneDNN is faster; before that it takes 10 microseconds to begin."""


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What `F.linear` computes, without its gradient: float32 on an x86 CPU is multiplied by oneDNN, everything else as ever.

    torch takes MKL, which uses AVX2 on CPUs that are not Intel's: half of what AVX-512 does. `rows`: (..., in); `weight`:
    (out, in).
    """
    is_float32 = rows.dtype == weight.dtype == torch.float32
    if HAS_BOTH and is_float32 and rows.device.type == "cpu" and rows.numel() * len(weight) >= LEAST_PRODUCTS:
        bias = None if bias is None else bias.contiguous()  # any other is read wrong
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return F.linear(rows, weight, bias)
