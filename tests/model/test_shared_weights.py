"""One base in memory, adapters on it one after another: each computes what it would on a base of its own."""

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from peft import LoraConfig
from transformers import T5ForConditionalGeneration

from job.model.lora import add_lora
from job.model.patches import use_fast_dropout
from job.model.shared_weights import LoadedOnce, copy_sharing_weights

IDS = torch.tensor([[5, 6, 7, 1]])


@pytest.fixture
def base(t5_folder):
    model = T5ForConditionalGeneration.from_pretrained(t5_folder)
    model.requires_grad_(False)
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, labels=IDS).logits


def train_a_bit(model: torch.nn.Module) -> None:
    """Changes everything that is trained of `model`."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.ones_like(parameter))


def test_a_copy_has_modules_of_its_own_and_the_very_weights(base):
    copy = copy_sharing_weights(base)
    assert not {id(module) for module in base.modules()} & {id(module) for module in copy.modules()}
    assert all(mine is its for mine, its in zip(base.parameters(), copy.parameters(), strict=True))
    assert torch.equal(logits(copy), logits(base))


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}], ids=str)
def test_an_adapter_that_was_trained_on_a_copy_leaves_the_base_as_it_was(base, options):
    before, names = logits(base), [name for name, _ in base.named_modules()]
    adapted = add_lora(copy_sharing_weights(base), LoraConfig(target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM", **options))
    use_fast_dropout(adapted)
    train_a_bit(adapted)
    assert not torch.equal(logits(adapted.eval()), before)
    assert torch.equal(logits(base), before)
    assert [name for name, _ in base.named_modules()] == names
    assert not any(parameter.requires_grad for parameter in base.parameters())


def test_biases_are_copied_since_they_may_be_trained_in_place():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    copy = copy_sharing_weights(layer)
    copy[0].bias.data.add_(1)
    assert copy[0].weight is layer[0].weight
    assert not torch.equal(copy[0].bias, layer[0].bias)


def test_int8_layers_compute_the_same_in_every_copy_with_their_weights_in_memory_once():
    """bitsandbytes takes the weights and scales out of the parameter in the first product."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(Linear8bitLt(64, 64, bias=False, has_fp16_weights=False), torch.nn.Tanh()).to("cpu")
    weights, inputs = base[0].weight.CB, torch.randn(4, 64)
    assert weights.dtype == torch.int8
    first, second = (copy_sharing_weights(base) for _ in range(2))
    wanted = first(inputs)
    assert torch.equal(second(inputs), wanted)
    assert torch.equal(copy_sharing_weights(base)(inputs), wanted)
    assert first[0].state.CB is second[0].state.CB is weights


def test_a_base_is_loaded_again_only_where_it_is_held_otherwise(base):
    loaded, once = [], LoadedOnce()

    def load():
        loaded.append(1)
        return base

    copies = [once.copy(form, load) for form in ("fp32", "fp32", "nf4")]
    assert len(loaded) == 2
    assert copies[0] is not copies[1]
    assert copies[0].shared.weight is copies[1].shared.weight
