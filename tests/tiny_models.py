"""Tiny models with an adapter that does something, and rows for them."""

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from job.model.lora import add_lora

LENGTHS = [(31, 7), (5, 12), (18, 3), (9, 4)]


def rows(causal: bool) -> list[dict]:
    generator = torch.Generator().manual_seed(3)
    made = []
    for source_length, target_length in LENGTHS:
        source, target = (
            torch.randint(3, 380, (length,), generator=generator).tolist() for length in (source_length, target_length)
        )
        both = {"input_ids": source + target, "labels": [-100] * source_length + target}
        texts = {"input": "text", "ground_truth": "text"}
        made.append(
            (both if causal else {"input_ids": source, "labels": target}) | texts | {"length": source_length + target_length}
        )
    return made


def adapted(base, dtype: torch.dtype = torch.float32, **options):
    torch.manual_seed(1)
    seq2seq = base.config.is_encoder_decoder
    targets, kind = (["q", "v"], "SEQ_2_SEQ_LM") if seq2seq else (["q_proj", "v_proj"], "CAUSAL_LM")
    config = LoraConfig(**{"task_type": kind, "r": 4, "target_modules": targets, "init_lora_weights": False} | options)
    return add_lora(base.requires_grad_(False), config).to(dtype)


def load(folder, dtype: torch.dtype = torch.float32):
    auto = AutoModelForSeq2SeqLM if "t5" in folder.name else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=dtype)
