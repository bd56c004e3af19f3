"""What the benchmarks train: models of known shapes with random weights, a tokenizer of words, and rows of the usual lengths."""

import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, T5ForConditionalGeneration

from job.plan.model_catalogue import known_config

WORDS = 32_000
SMOLLM = LlamaConfig(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=15, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
    tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None,
)  # fmt: skip
"""Half of the layers of SmolLM-135M."""
MODELS = {"smollm": "half of SmolLM-135M"}
"""By the names of the command line; all others are sizes of FLAN-T5."""
SOURCE, TARGET = (4.79, 0.65, 10, 500), (3.25, 0.5, 3, 100)
"""Mean and deviation of the logarithm of a length in words, shortest and longest: like the dialogues and summaries that the recipe
was published with, whose inputs have 150 tokens in the mean and 255 at the 85th percentile."""


def make(folder: Path, size: str, rows: dict[str, int]) -> None:
    """Writes `model/` and a csv file a name in `rows`, with that many rows, into `folder`."""
    make_tokenizer(ends=size not in MODELS).save_pretrained(folder / "model")
    make_model(size, "cuda" if torch.cuda.is_available() else "cpu").save_pretrained(folder / "model")
    generator = np.random.default_rng(0)
    for name, count in rows.items():
        lines = [",".join(_text(generator, *lengths) for lengths in (SOURCE, TARGET)) for _ in range(count)]
        (folder / f"{name}.csv").write_text("\n".join(["input,output_ground_truth", *lines]) + "\n")


def make_tokenizer(ends: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of the words w0, w1, ..., as many as FLAN-T5 has. ends: every text with </s>, as those of encoder-decoders do."""
    words = ["<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def make_model(size: str, device: str) -> PreTrainedModel:
    """SmolLM, or FLAN-T5 of this size with an lm_head of its own; bfloat16 on a GPU."""
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        if size == "smollm":
            return LlamaForCausalLM._from_config(SMOLLM, dtype=dtype)
        model = T5ForConditionalGeneration._from_config(known_config(f"google/flan-t5-{size}"), dtype=dtype)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.02)
    return model


def model_name(size: str) -> str:
    """For a person."""
    return MODELS.get(size, f"flan-t5-{size}")


def _text(generator: np.random.Generator, mean: float, deviation: float, shortest: int, longest: int) -> str:
    """Words of a usual text's frequencies."""
    length = min(max(int(generator.lognormal(mean, deviation)), shortest), longest)
    return " ".join(f"w{rank % WORDS}" for rank in generator.zipf(1.3, length))


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2], {"train": int(sys.argv[3]), "held_out": int(sys.argv[4])})
