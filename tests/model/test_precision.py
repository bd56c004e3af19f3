"""Types of the base's weights against float32: NF4 with `wo`, and float16 where `wo` overflows."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import T5Config, T5ForConditionalGeneration

from job.config.libraries import weight_format
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.plan.memory import NF4_WIDTH


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
    assert load(wide_t5 / "plain", "fp16", "none").encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype == torch.float32


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
