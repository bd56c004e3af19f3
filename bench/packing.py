"""Packed rows against padded ones for other encoder-decoders than T5: `make bench-packing`.

Random weights of small shapes, batches grouped by length as the job does it, forward and backward. Both kinds of batches take
turns; what counts is the CPU's time, which other programs on the machine disturb least. Figures go to bench/results/packing-*.json.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers as t
from peft import LoraConfig, PeftModel
from transformers import BatchEncoding
from transformers.models.t5gemma2.configuration_t5gemma2 import T5Gemma2Config

from bench.material import SOURCE, TARGET, WORDS, make_tokenizer
from job.model.kernels import fuse_gelu
from job.model.lora import add_lora
from job.model.objective import Objective
from job.model.packed_attention import accept_packed
from job.model.packing import PackingCollator, padding_collator
from job.model.patches import use_fast_dropout
from job.training.order import Order

RESULTS = Path(__file__).parent / "results"
ROWS, BATCH = 32, 8
T5 = {"vocab_size": WORDS + 3, "d_model": 384, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 6,
      "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"}  # fmt: skip
BART = {"vocab_size": WORDS + 3, "d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 6,
        "decoder_attention_heads": 6, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "pad_token_id": 0, "bos_token_id": 2,
        "eos_token_id": 1, "decoder_start_token_id": 1}  # fmt: skip
GEMMA = {"vocab_size": WORDS + 3, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 6,
         "num_key_value_heads": 2, "head_dim": 64, "sliding_window": 128, "pad_token_id": 0, "eos_token_id": 1,
         "bos_token_id": 2}  # fmt: skip


def t5gemma() -> t.PreTrainedModel:
    """Sliding and full layers in turns, its scores capped."""
    module = t.T5GemmaModuleConfig(**GEMMA)
    return t.T5GemmaForConditionalGeneration(t.T5GemmaConfig(encoder=module, decoder=module, vocab_size=WORDS + 3))


def t5gemma2() -> t.PreTrainedModel:
    """Self- and cross-attention merged; its vision tower is not used."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    encoder = {"text_config": GEMMA, "vision_config": sizes | {"image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 4}
    config = T5Gemma2Config(encoder=encoder, decoder=GEMMA, eoi_token_index=WORDS + 1, image_token_index=WORDS + 2)
    return t.T5Gemma2ForConditionalGeneration(config)


MODELS: dict[str, Callable[[], t.PreTrainedModel]] = {
    "T5": lambda: t.T5ForConditionalGeneration(t.T5Config(**T5)),
    "UMT5": lambda: t.UMT5ForConditionalGeneration(t.UMT5Config(**T5)),
    "BART": lambda: t.BartForConditionalGeneration(t.BartConfig(**BART)),
    "T5Gemma": t5gemma,
    "T5Gemma 2": t5gemma2,
}


def main() -> None:
    """Measures every model, prints a line each and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds, table = parser.parse_args().rounds, []
    for name, make in MODELS.items():
        ratios = measure(make(), rounds)
        row = {"model": name, "ratio": statistics.median(ratios), "ratio_spread": [min(ratios), max(ratios)], "rounds": rounds}
        table.append({key: value if key in ("model", "rounds") else np.round(value, 2).tolist() for key, value in row.items()})
        print("{model:10} packed {ratio} times as fast as padded, {ratio_spread}".format(**table[-1]), flush=True)
    device = f"{platform.machine()} CPU"
    facts = {"device": device, "cores": os.cpu_count(), "torch": torch.__version__, "transformers": t.__version__, "rows": ROWS,
             "batch": BATCH, "padding_share": padding_share(), "table": table}  # fmt: skip
    (RESULTS / f"packing-{device.replace(' ', '-')}.json").write_text(json.dumps(facts, indent=1) + "\n")


def measure(base: t.PreTrainedModel, rounds: int) -> list[float]:
    """How many times as fast packed batches are, a number a round; the first, which warms up, is left out."""
    model = with_adapter(base)
    objective, tokenizer, ratios = Objective(model), make_tokenizer(), []
    for number in range(rounds + 1):
        padded = seconds(model, objective, padding_collator(model, tokenizer))
        undo = accept_packed(model.get_base_model())
        packed = seconds(model, objective, PackingCollator(model))
        undo()
        if number:
            ratios.append(padded / packed)
    return ratios


def with_adapter(base: t.PreTrainedModel) -> PeftModel:
    """`base` as the job trains it on a CPU."""
    fuse_gelu(base)
    targets = "all-linear" if not hasattr(base, "shared") else ["q", "v"]
    model = add_lora(base.requires_grad_(False), LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, target_modules=targets))
    use_fast_dropout(model)
    return model.train()


def seconds(model: PeftModel, objective: Objective, collate: Callable) -> float:
    """Of the CPU, for all batches forward and backward."""
    data = [BatchEncoding(collate(batch)) for batch in batches()]
    started = time.process_time()
    for batch in data:
        objective(model, batch).backward()
    return time.process_time() - started


def batches() -> list[list[dict[str, list[int]]]]:
    """Rows of the usual lengths, grouped by length."""
    generator = np.random.default_rng(0)
    lengths = [
        np.clip(generator.lognormal(mean, deviation, ROWS).astype(int), shortest, longest)
        for mean, deviation, shortest, longest in (SOURCE, TARGET)
    ]
    rows = [
        {name: generator.integers(3, WORDS, length).tolist() for name, length in zip(("input_ids", "labels"), row, strict=True)}
        for row in zip(*lengths, strict=True)
    ]
    order = Order(sum(lengths).tolist(), BATCH, seed=0, group_by_length=True).epoch(0)
    return [[rows[place] for place in batch] for batch in order]


def padding_share() -> float:
    """Share of the padded inputs' and answers' tokens that are padding."""
    padded = sum(len(batch) * max(len(row[name]) for row in batch) for batch in batches() for name in ("input_ids", "labels"))
    return 1 - sum(len(row[name]) for batch in batches() for row in batch for name in row) / padded


if __name__ == "__main__":
    main()
