"""The formula of the memory."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig

from job.plan.dimensions import read_dimensions
from job.plan.memory import Batch, TrainingPlan, activation_bytes, peak_bytes, weights_bytes
from job.plan.model_catalogue import known_config
from job.plan.simulate import simulate_training_step


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")


LLAMA_QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


qv, llama_qv = (partial(get_peft_model, peft_config=config) for config in (QV, LLAMA_QV))


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
@pytest.mark.parametrize(("size", "batch"), [("small", Batch(8, 256, 56)), ("base", Batch(2, 512, 128))])
def test_the_formula_agrees_with_the_simulated_step(size, batch, dtype, precision):
    simulated = simulate_training_step(flan(size), qv, dtype, batch)
    dimensions = read_dimensions(flan(size))
    formula = weights_bytes(dimensions, precision, "none") + 16 * dimensions.adapter(16)
    formula += activation_bytes(dimensions, TrainingPlan(precision, "none", batch.rows, 0), batch)
    assert 0.97 < formula / simulated.peak < 1.10


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
def test_the_formula_agrees_with_the_simulated_step_of_a_causal_model(dtype, precision):
    config = LlamaConfig(
        vocab_size=8000, hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=12, num_key_value_heads=4
    )  # fmt: skip
    simulated = simulate_training_step(config, llama_qv, dtype, Batch(4, 384, 0))
    dimensions = read_dimensions(config)
    formula = weights_bytes(dimensions, precision, "none") + 16 * dimensions.adapter(16)
    formula += activation_bytes(dimensions, TrainingPlan(precision, "none", 4, 0), Batch(4, 384, 0))
    assert 0.95 < formula / simulated.peak < 1.10


def test_memory_grows_with_rows_lengths_and_width_and_shrinks_with_checkpointing():
    dimensions = read_dimensions(flan("xl"))
    growing = [peak_bytes(dimensions, TrainingPlan("bf16", "none", rows, 0), 256, 56, 16) for rows in (1, 2, 4, 8)]
    longer = [peak_bytes(dimensions, TrainingPlan("bf16", "none", 1, 0), length, 56, 16) for length in (64, 256, 512)]
    saving = [-peak_bytes(dimensions, TrainingPlan("bf16", "none", 8, blocks), 256, 56, 16) for blocks in range(1, 49)]
    assert all(before < after for series in (growing, longer, saving) for before, after in pairwise(series))
