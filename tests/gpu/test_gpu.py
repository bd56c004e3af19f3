"""On a real GPU: every way of holding a model trains, and what does not fit is made to fit. `make test-gpu`."""

import json
from pathlib import Path

import pytest
import torch

from job.model.lora import add_lora
from job.plan.model_catalogue import known_config
from job.preflight.memory import find_micro_batch
from job.system.hardware import GIB, check_computes, detect

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU TEST RAN: there is no GPU")

FEW_STEPS = {"DEVICE": "cuda", "MAX_STEPS": "6", "LOGGING_STEPS": "1", "EVAL_MAX_ROWS": "8"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_card_computes_right(dtype):
    check_computes(detect("cuda"), dtype)


@pytest.mark.parametrize(
    "variables",
    [{}, {"PRECISION": "fp16"}, {"PRECISION": "fp32"}, {"QUANTIZATION": "nf4"}, {"QUANTIZATION": "nf4", "PRECISION": "fp16"},
     {"QUANTIZATION": "int8"}, {"GRADIENT_CHECKPOINTING": "true"}],
)  # fmt: skip
def test_every_way_of_holding_the_base_trains_and_measures_its_memory(run_job, variables):
    code, said = run_job(RUN_NAME="r", **FEW_STEPS | variables)
    assert code == 0, said
    plan = json.loads(Path("output/r/plan.json").read_text())
    assert 0 < plan["measured_allocated_gib"] <= plan["measured_peak_gib"] <= plan["predicted_peak_gib"]


def test_a_cap_on_the_memory_halves_the_micro_batch_until_it_fits(tokenizer):
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSeq2SeqLM

    rows = Dataset.from_list([{"input_ids": list(range(3, 300)), "labels": list(range(3, 67))}])
    with torch.device("cuda"):
        model = AutoModelForSeq2SeqLM.from_config(known_config("google/flan-t5-small")).requires_grad_(False)
    model = add_lora(model, LoraConfig(r=16, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM"))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2 * GIB / total)
    try:
        found = find_micro_batch(model, rows, tokenizer, 32, 32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= found < 32
