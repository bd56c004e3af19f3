"""What `job.model.patches` relies on in torch, transformers and bitsandbytes, each test saying which patch a new version breaks;
and what the patches are for: NF4 with `wo`, and float16 where `wo` overflows, against float32."""

import inspect
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from torch import nn
from transformers import AutoModelForSeq2SeqLM, NllbMoeConfig, T5Config, T5ForConditionalGeneration
from transformers.integrations import sdpa_attention
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeSparseMLP
from transformers.models.t5.modeling_t5 import T5PreTrainedModel

from job.config.libraries import weight_format
from job.model.cpu_kernels import CpuDropout
from job.model.kernels import WideOutput
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.model.patches import (
    attention_implementation,
    choose_attention_kernels,
    head_computes,
    keep_expert_capacity,
    own_attention,
    replace_attention,
    replace_bias,
    replace_forward,
    use_fast_dropout,
)
from job.plan.memory import NF4_WIDTH


@pytest.fixture
def model(t5_folder):
    return AutoModelForSeq2SeqLM.from_pretrained(t5_folder).eval()


@pytest.fixture
def inputs():
    return {"input_ids": torch.arange(3, 12)[None], "decoder_input_ids": torch.arange(3, 8)[None]}


def test_an_attention_finds_its_function_where_the_library_does(model):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.models.t5 import modeling_t5

    attention = model.encoder.block[0].layer[0].SelfAttention
    assert own_attention(attention, "sdpa") is sdpa_attention_forward
    assert own_attention(attention, "eager") is modeling_t5.eager_attention_forward


def test_a_replaced_attention_is_given_the_name_of_the_one_it_replaces_and_can_be_undone(model, inputs):
    before, names = model(**inputs).logits, []

    def attention(name, module, *args, **kwargs):
        names.append(name)
        return own_attention(module, name)(module, *args, **kwargs)

    undo = replace_attention(model, attention, lambda make_mask, **form: make_mask(**form))
    assert attention_implementation(model) == "packed_sdpa"
    assert torch.equal(model(**inputs).logits, before)
    assert names == ["sdpa"] * 6, "two blocks of an encoder, two of a decoder with cross-attention"
    undo()
    assert attention_implementation(model) == "sdpa"
    model(**inputs)
    assert len(names) == 6


def test_a_replaced_forward_keeps_its_signature_and_two_can_be_undone_one_after_the_other():
    layer = nn.Linear(2, 2, bias=False)
    ones, plain = torch.ones(1, 2), inspect.signature(layer.forward)
    expected = layer(ones)
    first = replace_forward(layer, lambda forward, rows: forward(rows) + 1)
    second = replace_forward(layer, lambda forward, rows: 10 * forward(rows))
    assert torch.allclose(layer(ones), 10 * (expected + 1))
    assert inspect.signature(layer.forward) == plain
    second()
    assert torch.allclose(layer(ones), expected + 1)
    first()
    assert torch.equal(layer(ones), expected)
    assert "forward" not in vars(layer)


def test_an_attention_of_a_t5_has_a_bias_that_can_be_replaced_where_it_is_called_with_rows(model, inputs):
    """Of one block each: in others T5 hands on what the first computed."""
    before, seen = model(**inputs).logits, []
    for stack in (model.encoder, model.decoder):
        for layer in list(stack.block[0].layer)[:-1]:
            attention = layer.SelfAttention if hasattr(layer, "SelfAttention") else layer.EncDecAttention

            def bias(attention, compute_bias, packing, device):
                seen.append((attention.is_causal, compute_bias is None, packing))
                return torch.zeros(1, 1, 1, 1)

            replace_bias(attention, bias)
    assert torch.equal(model(**inputs).logits, before)
    assert seen == [], "without rows it is the library's"
    model(**inputs, packing=7)
    assert seen == [(False, False, 7), (True, False, 7), (False, True, 7)], "encoder, decoder, cross-attention"


def test_transformers_keeps_wo_and_nothing_else_of_a_t5_in_float32():
    said = "quantised_wo in job/model/patches.py empties this list while NF4 weights are loaded"
    assert T5PreTrainedModel._keep_in_fp32_modules == ["wo"], said


def test_bitsandbytes_still_asks_a_layer_whether_to_repack_it():
    layer = Linear4bit(8, 8)
    assert hasattr(layer, "support_avx512bf16_for_cpu"), "keep_nf4_weights in job/model/patches.py sets what nobody reads any more"
    assert hasattr(layer, "compute_dtype"), "keep_wo_in_float32 in job/model/patches.py sets what nobody reads any more"


def test_the_attention_of_a_model_can_be_read_and_set(model):
    model.set_attn_implementation("eager")
    assert attention_implementation(model) == "eager"


def test_t5_blocks_are_layers_that_can_be_checkpointed_one_by_one(model):
    assert all(isinstance(block, GradientCheckpointingLayer) for block in model.encoder.block)
    assert all(hasattr(block, "gradient_checkpointing") for block in model.encoder.block)


def test_a_head_that_was_replaced_computes_as_before_afterwards(model, inputs):
    before = model(**inputs).logits
    with head_computes(model.lm_head, lambda hidden: hidden):
        assert model(**inputs).logits.shape == (1, 5, 32), "the model does not call its head's forward any more"
    assert torch.equal(model(**inputs).logits, before)


def test_nf4_weights_stay_as_they_are_when_a_model_only_answers(t5_folder, monkeypatch):
    """bitsandbytes repacks them at the first evaluation on CPUs that multiply bfloat16, and what it unpacks later is another."""
    from bitsandbytes.nn import modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    model = load_base(BaseModel(str(t5_folder)), True, *weight_format("fp32", "nf4"), "cpu").eval()
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    before = [layer.weight.data.view(torch.uint8).clone() for layer in layers]
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 1]]), decoder_input_ids=torch.tensor([[0, 4]]))
    assert layers
    assert all(torch.equal(layer.weight.data.view(torch.uint8), kept) for layer, kept in zip(layers, before, strict=True))


def test_an_evaluation_leaves_the_number_of_tokens_that_an_expert_takes_in_training():
    config = NllbMoeConfig(d_model=16, encoder_ffn_dim=16, num_experts=4, expert_capacity=8)
    layer, tokens = NllbMoeSparseMLP(config, config.encoder_ffn_dim).eval(), torch.randn(1, 50, 16)
    layer(tokens)
    assert layer.router.expert_capacity == 50, "keep_expert_capacity in job/model/patches.py undoes nothing any more"
    layer.router.expert_capacity = 8
    keep_expert_capacity(layer)
    layer(tokens)
    assert layer.router.expert_capacity == 8


def test_every_dropout_of_a_model_is_replaced_and_does_nothing_in_evaluation():
    model = nn.Sequential(nn.Dropout(0.5), nn.ModuleDict({"default": nn.Dropout(0.5)})["default"])
    use_fast_dropout(model)
    assert all(type(module) is CpuDropout for module in model)
    assert torch.equal(model.eval()(torch.ones(100)), torch.ones(100))
    assert (model.train()(torch.ones(100)) == 0).any()


def lora() -> LoraConfig:
    return LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"], r=4, lora_dropout=0.0)


BATCH = {
    "input_ids": torch.arange(3, 35).reshape(4, 8),
    "labels": torch.arange(40, 64).reshape(4, 6),
}


@pytest.fixture(scope="session")
def wide_t5(tmp_path_factory) -> Path:
    """A T5 wide enough for blocks of 64 weights, whose `wo` puts out more than float16 holds."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=400, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu", dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    folder = tmp_path_factory.mktemp("wide")
    model.save_pretrained(folder / "plain")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_({"wi_1.weight": 150, "wo.weight": 2000}.get(name.split("DenseReluDense.")[-1], 1))
    model.save_pretrained(folder / "overflowing")
    return folder


def load(folder: Path, precision: str, quantization: str) -> T5ForConditionalGeneration:
    return load_base(BaseModel(str(folder)), True, *weight_format(precision, quantization), "cpu")


def loss_and_gradient(folder: Path, precision: str, quantization: str, training: bool) -> tuple[float, torch.Tensor]:
    """The loss of BATCH, and the gradient of an adapter that has an effect."""
    torch.manual_seed(1)
    model = add_lora(load(folder, precision, quantization), lora()).train(training)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    loss = model(**BATCH).loss
    (1024 * loss).backward()
    return loss.item(), torch.cat([p.grad.flatten() / 1024 for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_nf4_with_wo_agrees_with_the_unquantised_model(wide_t5, precision, training):
    loss, gradient = loss_and_gradient(wide_t5 / "plain", "fp32", "none", training)
    quantised_loss, quantised_gradient = loss_and_gradient(wide_t5 / "plain", precision, "nf4", training)
    assert quantised_loss == pytest.approx(loss, rel=0.03)
    assert quantised_gradient.norm() == pytest.approx(gradient.norm().item(), rel=0.2)
    assert torch.cosine_similarity(quantised_gradient, gradient, dim=0) > 0.9


def test_nf4_takes_wo_as_well_and_leaves_the_class_as_it_was(wide_t5):
    model = load(wide_t5 / "plain", "bf16", "nf4")
    wo = model.encoder.block[0].layer[1].DenseReluDense.wo
    assert type(wo).__name__ == "Linear4bit"
    stored = wo.weight.numel() * wo.weight.element_size()
    assert stored == pytest.approx(64 * 128 * NF4_WIDTH, rel=0.04)
    assert type(model)._keep_in_fp32_modules == ["wo"]
    assert type(load(wide_t5 / "plain", "fp16", "none").encoder.block[0].layer[1].DenseReluDense.wo) is WideOutput


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_what_overflows_float16_agrees_with_float32_in_the_jobs_way(wide_t5):
    folder, largest = wide_t5 / "overflowing", []
    exact = load(folder, "fp32", "none")
    exact.encoder.block[0].layer[1].DenseReluDense.wo.register_forward_hook(lambda *call: largest.append(call[2].abs().max()))
    with torch.no_grad():
        expected = exact(**BATCH).logits
        ours = load(folder, "fp16", "none")(**BATCH).logits.float()
        with torch.autocast("cpu", torch.float16):
            autocast = load(folder, "fp32", "none")(**BATCH).logits.float()
    assert largest[0] > 65504, "the checkpoint does not overflow, so the test shows nothing"
    assert distance(ours, expected) < 1e-2
    assert not distance(autocast, expected) < 0.1


def test_nf4_beside_float16_survives_the_overflow_too(wide_t5):
    """Rounding to float16 moves 0.5 % of the weights into a neighbouring bin: far less than what NF4 itself changes."""
    folder = wide_t5 / "overflowing"
    with torch.no_grad():
        unquantised, quantised, half = (
            load(folder, *way)(**BATCH).logits.float() for way in (("fp32", "none"), ("fp32", "nf4"), ("fp16", "nf4"))
        )
    assert distance(half, quantised) < distance(quantised, unquantised) / 2


def test_loss_and_gradient_in_float16_agree_with_float32(wide_t5):
    loss, gradient = loss_and_gradient(wide_t5 / "overflowing", "fp32", "none", True)
    half_loss, half_gradient = loss_and_gradient(wide_t5 / "overflowing", "fp16", "none", True)
    assert half_loss == pytest.approx(loss, rel=1e-2)
    assert torch.cosine_similarity(half_gradient, gradient, dim=0) > 0.99


@pytest.mark.parametrize(
    ("dtype", "capability", "expected"),
    [("float16", (7, 0), False), ("float16", (7, 5), False), ("bfloat16", (8, 0), True), ("float32", (9, 0), False)],
)
def test_grouped_heads_are_repeated_for_a_gpus_kernels_that_take_none(dtype, capability, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(sdpa_attention, "use_gqa_in_sdpa", sdpa_attention.use_gqa_in_sdpa)
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda query, *_, **kwargs: asked.append(kwargs) or query
    )
    choose_attention_kernels()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    key = Mock(is_cuda=True, dtype=getattr(torch, dtype), shape=(1, 2, 5, 16))
    assert sdpa_attention.use_gqa_in_sdpa(None, key, key) is expected
    assert not sdpa_attention.use_gqa_in_sdpa(torch.ones(1), key, key)
    layer = nn.Module()
    layer.num_key_value_groups = 2
    queries, keys = torch.zeros(1, 4, 5, 16), torch.zeros(1, 2, 5, 16)
    sdpa_attention.sdpa_attention_forward(layer, queries, keys, keys, None)
    assert asked[-1].get("enable_gqa"), "on a CPU torch takes them; transformers asks another function now"
