"""The simulated step against real tensors, and what it must feel: rows, types, recomputed blocks."""

from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, LlamaConfig, T5Config

from job.model.kernels import fuse_gelu
from job.plan.memory import Batch
from job.plan.model_catalogue import known_config
from job.plan.simulate import run_tracked, simulate_training_step

QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
qv = partial(get_peft_model, peft_config=QV)


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


def test_the_simulation_counts_what_real_tensors_take():
    """The same tracker over a real model with real tensors on the CPU, whose kernels keep the same when nothing is patched."""
    config = flan("small")
    config.num_layers = config.num_decoder_layers = 2
    config.dropout_rate = 0.0
    model = AutoModelForSeq2SeqLM.from_config(config).requires_grad_(False)
    fuse_gelu(model)
    real = run_tracked(get_peft_model(model, QV).train(), Batch(4, 64, 16))
    simulated = simulate_training_step(config, qv, torch.float32, Batch(4, 64, 16))
    head = config.vocab_size * config.d_model * 4  # from_config ties it; the simulation gives FLAN-T5 its own
    assert simulated.weights - head == pytest.approx(real.weights, rel=1e-3)
    assert simulated.peak - simulated.weights == pytest.approx(real.peak - real.weights, rel=0.15)


LLAMA = LlamaConfig(
    vocab_size=500, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2
)
T5 = T5Config(vocab_size=500, d_model=64, d_ff=128, d_kv=16, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
on_llama = partial(
    get_peft_model, peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
)


def peak_of(rows: int = 4, length: int = 64, dtype: torch.dtype = torch.float32, blocks: int = 0, on_cuda: bool = True) -> int:
    """Bytes beside the weights."""
    found = simulate_training_step(LLAMA, on_llama, dtype, Batch(rows, length, 0), blocks, on_cuda)
    return found.peak - found.weights


def test_the_weights_are_those_of_the_base_in_its_type_and_of_the_adapter_in_float32():
    """By hand: 2 x 500 x 64 in embedding and head; a block has 64 x (2 x 64 + 2 x 32) + 3 x 64 x 160 and two norms."""
    base = 2 * 500 * 64 + 3 * (64 * 192 + 3 * 64 * 160 + 2 * 64) + 64
    adapter = 3 * 4 * ((64 + 64) + (64 + 32))
    frequencies = 2 * 4 * 8  # two buffers of the rotation, half a head's width each
    for dtype, width in ((torch.float32, 4), (torch.bfloat16, 2)):
        found = simulate_training_step(LLAMA, on_llama, dtype, Batch(1, 8, 0)).weights
        assert found == pytest.approx(width * base + 4 * adapter, abs=frequencies)


def test_what_a_step_keeps_grows_with_its_rows():
    assert peak_of(rows=8) > 1.8 * peak_of(rows=4)
    assert peak_of(length=128) > 1.8 * peak_of(length=64)
    assert peak_of(dtype=torch.bfloat16) < 0.8 * peak_of()


def test_each_recomputed_block_saves_memory_from_the_second_on():
    peaks = [peak_of(rows=8, blocks=blocks) for blocks in (1, 2, 3)]
    assert peaks[0] > peaks[1] > peaks[2]


def test_a_gpus_kernels_keep_less_than_the_cpus():
    assert peak_of(on_cuda=True) < peak_of(on_cuda=False)


def test_a_simulation_leaves_torch_as_it_was():
    peak_of()
    assert type(torch.empty(1)) is torch.Tensor
    assert torch.empty(1).device.type == "cpu"
