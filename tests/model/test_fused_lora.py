"""A fused LoRA layer puts out what PEFT's does, has its gradients, and leaves all that is no plain product to PEFT."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from job.model import cpu_kernels
from job.model.fused_lora import fuse_lora

RANK, BEFORE, AFTER = 4, 24, 16


def adapted(base: nn.Module | None = None, **options: object) -> tuple[nn.Module, nn.Module]:
    """A model of one LoRA layer, PEFT's and fused; with random weights in both matrices."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(BEFORE, AFTER) if base is None else base)
    config = LoraConfig(r=RANK, lora_alpha=12, target_modules=["0"], init_lora_weights=False, **options)
    library = get_peft_model(model, config)
    fused = copy.deepcopy(library)
    fuse_lora(fused)
    return library, fused


def put_out(model: nn.Module, rows: torch.Tensor) -> list[torch.Tensor]:
    """What `model` puts out, and the gradients of the rows and of all that is trained."""
    leaf = rows.clone().requires_grad_()
    found = model(leaf)
    found.backward(torch.linspace(-1, 1, found.numel()).view_as(found).to(found.dtype))
    trained = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    return [found.detach(), leaf.grad, *trained]


def calls_of_lora(model: nn.Module, rows: torch.Tensor) -> int:
    """How often PEFT's own matrices are called as layers: never by a fused one."""
    calls = []
    layers = [module for name, module in model.named_modules() if ".lora_" in name and isinstance(module, nn.Linear)]
    handles = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    model(rows)
    for handle in handles:
        handle.remove()
    return len(calls)


@pytest.mark.parametrize("base", [nn.Linear(BEFORE, AFTER), nn.Linear(BEFORE, AFTER, bias=False), Conv1D(AFTER, BEFORE)])
@pytest.mark.parametrize("shape", [(5, BEFORE), (2, 5, BEFORE)])
def test_output_and_gradients_are_pefts(base, shape):
    library, fused = (model.double() for model in adapted(base, fan_in_fan_out=isinstance(base, Conv1D)))
    rows = torch.randn(*shape, dtype=torch.float64)
    assert calls_of_lora(fused, rows) == 0
    for expected, found in zip(put_out(library, rows), put_out(fused, rows), strict=True):
        assert found.dtype == expected.dtype
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2]], ids=["as they lie", "transposed"])
def test_what_is_put_out_may_be_changed_in_place(order):
    """As LED does with its queries."""
    library, fused = (model.double() for model in adapted())
    rows = torch.randn(3, 5, BEFORE, dtype=torch.float64).permute(order).requires_grad_()
    gradients = []
    for model in (library, fused):
        found = model(rows)
        found /= 3
        gradients.append(torch.autograd.grad(found.square().sum(), rows)[0])
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-13)


def test_beside_bfloat16_the_gradients_are_float32_and_as_near_as_rounding():
    dtype = torch.bfloat16
    library, fused = adapted(nn.Linear(BEFORE, AFTER).to(dtype))
    rows = torch.randn(300, BEFORE).to(dtype)
    exact = put_out(copy.deepcopy(library).double(), rows.double())
    for expected, own, found in zip(exact, put_out(library, rows), put_out(fused, rows), strict=True):
        assert found.dtype == own.dtype
        assert (found - expected).norm() <= 2 * torch.finfo(dtype).eps * expected.norm()


def test_beside_float16_the_adapter_computes_in_float32_as_ever():
    library, fused = adapted(nn.Linear(BEFORE, AFTER).half())
    rows = torch.randn(300, BEFORE).half()
    assert calls_of_lora(fused, rows) == 2
    for expected, found in zip(put_out(library, rows), put_out(fused, rows), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("shape", [(0, BEFORE), (2, 0, BEFORE), (BEFORE,)])
def test_no_rows_and_a_row_without_a_batch_are_taken(shape):
    library, fused = adapted()
    assert fused(torch.ones(shape)).shape == library(torch.ones(shape)).shape


def test_with_dropout_the_mean_is_that_without_and_the_gradient_that_of_what_was_kept():
    torch.manual_seed(1)
    _, fused = adapted(lora_dropout=0.3)
    rows = torch.randn(6, BEFORE)
    fused.train()
    mean = sum(fused(rows).detach() for _ in range(4000)) / 4000
    expected = fused.eval()(rows).detach()
    assert (mean - expected).norm() < 0.04 * expected.norm()
    fused.train().double()
    rows, direction, step, seed = rows.double(), torch.randn(6, BEFORE).double(), 1e-3, 7
    sides = []
    for sign in (1, -1):
        torch.manual_seed(seed)
        sides.append(fused(rows + sign * step * direction).sum())
    leaf = rows.clone().requires_grad_()
    torch.manual_seed(seed)
    fused(leaf).sum().backward()
    assert ((sides[0] - sides[1]) / (2 * step)).item() == pytest.approx((leaf.grad * direction).sum().item(), rel=1e-6)


def test_a_dropout_of_the_cpus_own_counts_as_one():
    _, fused = adapted(lora_dropout=0.5)
    layer = fused.base_model.model[0]
    layer.lora_dropout["default"].__class__ = cpu_kernels.CpuDropout
    rows = torch.randn(40, BEFORE)
    fused.train()
    assert not torch.equal(fused(rows), fused(rows))
    fused.eval()
    assert torch.equal(fused(rows), fused(rows))


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}, {"use_rslora": True}], ids=str)
def test_other_kinds_compute_what_peft_computes(options):
    library, fused = adapted(**options)
    rows = torch.randn(2, 5, BEFORE)
    assert (calls_of_lora(fused, rows) == 0) == ("use_rslora" in options)
    for expected, found in zip(put_out(library, rows), put_out(fused, rows), strict=True):
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_switched_off_merged_or_beside_another_adapter_it_is_pefts():
    library, fused = adapted()
    rows = torch.randn(5, BEFORE)
    with library.disable_adapter(), fused.disable_adapter():
        assert torch.equal(fused(rows), library(rows))
    for model in (library, fused):
        model.add_adapter("second", LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    library.load_state_dict(fused.state_dict())
    for model in (library, fused):
        model.base_model.set_adapter(["default", "second"])
    assert torch.allclose(fused(rows), library(rows), atol=1e-5)
    for model in (library, fused):
        model.base_model.set_adapter("default")
        model.merge_adapter()
    assert torch.allclose(fused(rows), library(rows), atol=1e-5)
