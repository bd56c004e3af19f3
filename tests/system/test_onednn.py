"""Products are torch's own, whichever library computes them."""

import pytest
import torch
from torch.nn import functional as F

from job.system.onednn import HAS_BOTH, LEAST_PRODUCTS, linear

SHAPES = [(1, 8, 8), (3, 700, 600), (64, 512, 384), (0, 512, 384), (1, 2048, 2048)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("count", "before", "after"), SHAPES)
def test_products_of_every_type_and_shape_are_as_near_to_the_exact_ones_as_torchs_own(count, before, after, dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, before, generator=generator).to(dtype)
    weight = torch.randn(after, before, generator=generator).to(dtype)
    bias = torch.randn(2 * after, generator=generator).to(dtype)[::2]
    exact = F.linear(rows.double(), weight.double(), bias.double())
    found, own = linear(rows, weight, bias), F.linear(rows, weight, bias)
    assert (found.shape, found.dtype) == (own.shape, own.dtype)
    assert (found - exact).norm() <= 2 * (own - exact).norm() + torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("leading", [(2, 100), (1, 2, 100)])
def test_rows_of_any_shape_and_order_and_weights_by_columns_are_taken(leading):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(*leading, 96, generator=generator).transpose(-3, -2)
    weight = torch.randn(96, 80, generator=generator).T
    assert rows.numel() * len(weight) >= LEAST_PRODUCTS
    assert torch.allclose(linear(rows, weight), F.linear(rows, weight), atol=1e-4)


def test_a_large_product_in_float32_is_onednns():
    if not HAS_BOTH:
        pytest.skip("torch has one library here")
    with torch.profiler.profile(acc_events=True) as profile:
        linear(torch.randn(64, 512), torch.randn(512, 512))
    assert any("mkldnn" in event.key for event in profile.key_averages()), "torch.ops.mkldnn._linear_pointwise has another name now"
