"""The CPU's own dropout and attention are torch's, in distribution and where nothing is dropped."""

import pytest
import torch
from torch.nn import functional as F

from job.model.cpu_dropout import attend, dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_a_share_is_dropped_and_the_rest_keeps_the_mean(p):
    torch.manual_seed(0)
    values = torch.ones(1000, 1001)
    found = dropout(values, p)
    assert (found == 0).double().mean() == pytest.approx(p, abs=0.002)
    assert found.max() == pytest.approx(1 / (1 - p), rel=1e-4)
    assert found.double().mean() == pytest.approx(1, abs=0.005)


def test_what_is_dropped_depends_on_no_neighbour():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(4_000_000), 0.25) == 0).double()
    for distance in (1, 2, 3, 4):
        both = (dropped[:-distance] * dropped[distance:]).mean()
        assert both == pytest.approx(0.0625, abs=0.001)


def test_the_gradient_passes_where_the_value_did():
    values = torch.randn(7, 5, requires_grad=True)
    found = dropout(values, 0.5)
    found.sum().backward()
    assert torch.equal(values.grad, torch.where(found != 0, 2.0, 0.0))


def test_the_same_seed_drops_the_same():
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(dropout(torch.ones(33), 0.3))
    assert torch.equal(*results)


@pytest.mark.parametrize("kind", ["bias", "mask"])
def test_attention_is_torchs_where_nothing_is_dropped(kind):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 4, dtype=torch.float64) for length in (5, 6, 6))
    bias = torch.randn(2, 3, 5, 6, dtype=torch.float64) if kind == "bias" else torch.rand(2, 1, 1, 6) > 0.3
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0).transpose(1, 2)
    assert torch.allclose(attend(query, key, value, bias, 0.0), expected, atol=1e-12)


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_causal_attention_of_grouped_heads_is_torchs(heads):
    torch.manual_seed(0)
    query = torch.randn(2, 4, 5, 8, dtype=torch.float64)
    key, value = (torch.randn(2, heads, 5, 8, dtype=torch.float64) for _ in range(2))
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True).transpose(1, 2)
    assert torch.allclose(attend(query, key, value, None, 0.0, 0.3), expected, atol=1e-12)


def test_attention_drops_as_torch_does_in_the_mean():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 4, 8) for _ in range(3))
    bias = torch.zeros(1, 2, 4, 4)
    mean = sum(attend(query, key, value, bias, 0.2) for _ in range(4000)) / 4000
    assert torch.allclose(mean, attend(query, key, value, bias, 0.0), atol=0.06)
