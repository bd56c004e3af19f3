"""Layers with kernels of their own put out what the library's do, and what they round is rounded no worse."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration
from transformers.activations import NewGELUActivation
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.models.umt5.modeling_umt5 import UMT5LayerNorm

from job.model.kernels import WideOutput, fuse_gelu, fuse_norms, narrow_wo


def test_a_gated_gelu_t5_has_a_gelu_to_fuse_in_each_feed_forward(t5_folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_folder)
    fuse_gelu(model)
    fused = [module for module in model.modules() if isinstance(module, nn.GELU)]
    assert len(fused) == 2 * model.config.num_layers, "T5's gelu_new has another class now"
    assert all(module.approximate == "tanh" for module in fused)


def test_the_fused_gelu_is_the_models_own(t5_folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_folder, dtype=torch.float64).eval()
    inputs = {"input_ids": torch.arange(3, 40)[None], "decoder_input_ids": torch.arange(3, 20)[None]}
    expected = model(**inputs).logits
    fuse_gelu(model)
    assert not any(isinstance(module, NewGELUActivation) for module in model.modules())
    assert (model(**inputs).logits - expected).abs().max() < 1e-12


def norm(kind: type[nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    """A norm of some weights."""
    made = kind(48)
    with torch.no_grad():
        made.weight.copy_(torch.randn(48, generator=torch.Generator().manual_seed(1)))
    return made.to(dtype).requires_grad_(False)


def put_out(module: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `module` makes of `rows`, and the gradient."""
    leaf = rows.clone().requires_grad_()
    found = module(leaf)
    found.backward(torch.linspace(-1, 1, found.numel()).view_as(found).to(found.dtype))
    return found.detach(), leaf.grad


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("input_type", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [T5LayerNorm, UMT5LayerNorm, LlamaRMSNorm])
def test_a_fused_norm_is_as_near_to_the_exact_one_as_the_librarys_and_has_its_type(kind, input_type, weight, device):
    """device: whose kernel is asked for; both compute on a CPU."""
    library, rows = norm(kind, weight), 3 * torch.randn(7, 48, generator=torch.Generator().manual_seed(2)).to(input_type)
    fused = copy.deepcopy(library)
    fuse_norms(fused, device)
    assert type(fused) is not kind
    exact = put_out(copy.deepcopy(library).double(), rows.double())
    for own, found, expected in zip(put_out(library, rows), put_out(fused, rows), exact, strict=True):
        assert found.dtype == own.dtype
        assert (found - expected).norm() <= 1.01 * (own - expected).norm() + 1e-6 * expected.norm()


def test_on_a_cpu_a_norm_whose_weight_is_trained_has_its_gradient():
    trained, rows = norm(T5LayerNorm).requires_grad_(True), torch.randn(7, 48)
    fused = copy.deepcopy(trained)
    fuse_norms(fused, "cpu")
    for module in (trained, fused):
        module(rows).square().sum().backward()
    assert torch.allclose(fused.weight.grad, trained.weight.grad, rtol=1e-5)


@pytest.mark.parametrize(
    "module", [GemmaRMSNorm(48), Qwen3NextRMSNormGated(48), nn.LayerNorm(48, bias=False), nn.Linear(48, 1, bias=False)]
)
def test_what_is_no_such_norm_is_left_alone(module):
    kind = type(module)
    fuse_norms(nn.Sequential(module), "cuda")
    assert type(module) is kind


def test_all_norms_of_a_t5_are_fused(t5_folder):
    model = T5ForConditionalGeneration.from_pretrained(t5_folder)
    norms = [module for module in model.modules() if isinstance(module, T5LayerNorm)]
    fuse_norms(model, "cuda")
    assert norms
    assert all(type(module) is not T5LayerNorm for module in norms)


def test_wo_in_float16_puts_out_float32_that_float16_does_not_hold_and_has_the_gradient_of_float32_weights():
    """The gradients are as large as a loss scale makes them: float16 holds none of them, nor the smallest of a row beside it."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.ModuleDict({"wo": nn.Linear(64, 32, bias=False)}).requires_grad_(False)
    model = nn.ModuleDict({"block": layer})
    narrow_wo(model)
    assert type(layer["wo"]) is nn.Linear, "transformers doesn't keep it in float32"
    model._keep_in_fp32_modules = ["wo"]
    layer["wo"].weight.data = (100 * torch.randn(32, 64, generator=generator)).half().float()
    wide = copy.deepcopy(layer["wo"])
    narrow_wo(model)
    assert (type(layer["wo"]), layer["wo"].weight.dtype) == (WideOutput, torch.float16)
    rows = (100 * torch.randn(2, 5, 64, generator=generator)).half()
    slope = torch.randn(2, 5, 32, generator=generator) * torch.logspace(-6, 0, 10).view(2, 5, 1) * 1e6
    results = []
    for product, leaf in ((layer["wo"], rows.clone().requires_grad_()), (wide, rows.float().requires_grad_())):
        found = product(leaf)
        found.backward(slope / found.abs().max())
        results.append((found.detach(), leaf.grad.float()))
    (found, gradient), (expected, exact) = results
    assert found.dtype == torch.float32
    assert found.abs().max() > torch.finfo(torch.float16).max
    assert torch.allclose(found, expected, rtol=1e-5)
    assert ((gradient - exact).norm(dim=-1) < 1e-3 * exact.norm(dim=-1)).all()
    layer["wo"].weight.data = layer["wo"].weight.data.float()
    assert torch.equal(layer["wo"](rows.float()), F.linear(rows.float(), layer["wo"].weight.float()))
