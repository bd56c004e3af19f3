"""The simulated step."""

from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM

from job.model.patches import fuse_gelu
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
