"""The CPU's own layers, dropout and attention are torch's: dropout in distribution, and where nothing is dropped."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from job.model.cpu_kernels import LEVELS, CpuLinear, attend, dropout, use_onednn


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_a_share_is_dropped_and_the_rest_keeps_the_mean(p):
    torch.manual_seed(0)
    found = [dropout(torch.ones(100, 1001), p) for _ in range(200)]
    shares = torch.stack([(part == 0).double().mean() for part in found])
    assert shares.mean() == pytest.approx(p, abs=0.0005)
    assert (shares - p).abs().max() < 1 / LEVELS + 0.008, "each draw is a level away at the most, and chance"
    assert torch.stack(found).double().mean() == pytest.approx(1, abs=0.0005)
    for part in found[:9]:
        assert part.double().mean() == pytest.approx(1, abs=0.01)


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


def test_layers_of_every_shape_put_out_what_torchs_own_do_and_have_its_gradient(t5_folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_folder).requires_grad_(False)
    torch.manual_seed(0)
    for shape in [(300, 96), (96, 300), (96, 96)]:
        for bias in (False, True):
            own, rows = nn.Linear(*shape, bias=bias).requires_grad_(False), torch.randn(2, 150, shape[0], requires_grad=True)
            model.extra = changed = copy.deepcopy(own)
            use_onednn(model)
            assert type(changed) is CpuLinear
            slope = torch.randn(2, 150, shape[1])
            expected, found = own(rows), changed(rows)
            assert torch.allclose(found, expected, atol=1e-5)
            gradients = [torch.autograd.grad(output, rows, slope)[0] for output in (expected, found)]
            assert torch.allclose(*gradients, atol=1e-5)
            del model.extra


def test_matrices_that_narrow_rows_lie_by_columns_and_are_saved_as_ever(t5_folder, tmp_path):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_folder).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    use_onednn(model)
    feed_forward = model.encoder.block[0].layer[1].DenseReluDense
    assert feed_forward.wo.weight.T.is_contiguous()
    assert feed_forward.wi_0.weight.is_contiguous()
    assert model.lm_head.weight.T.is_contiguous()
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in before.items())


def test_a_head_that_is_the_embedding_too_is_left_as_it_lies(llama_folder):
    model = AutoModelForCausalLM.from_pretrained(llama_folder).requires_grad_(False)
    model.lm_head.weight = model.model.embed_tokens.weight
    use_onednn(model)
    assert model.lm_head.weight.is_contiguous()
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_trained_layer_has_the_gradients_of_its_weights():
    layer, rows = nn.Linear(40, 30), torch.randn(5, 40)
    trained = copy.deepcopy(layer)
    trained.__class__ = CpuLinear
    for module in (layer, trained):
        module(rows).square().sum().backward()
    assert torch.equal(trained.weight.grad, layer.weight.grad)
    assert torch.equal(trained.bias.grad, layer.bias.grad)
