"""What the builders of tiny models share."""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "initializer_range": 0.2,
}  # fmt: skip
"""Weights of the usual 0.02 would make a tiny model give every input the same answer."""


def causal(kind: str, tokenizer: PreTrainedTokenizerBase, **options: object) -> Tiny:
    """A `kind`ForCausalLM of these sizes, unless `options` say otherwise, with the tokenizer's special tokens."""
    config = SIZES | special_ids(tokenizer) | {"vocab_size": embeddings(tokenizer)} | options
    model = model_of(kind, "ForCausalLM", **config)
    embedding = model.get_input_embeddings()
    if embedding.padding_idx is not None:  # new models have zeros there, trained ones do not
        torch.nn.init.normal_(embedding.weight[embedding.padding_idx], std=SIZES["initializer_range"])
    return model, tokenizer


def model_of(kind: str, ending: str = "ForCausalLM", **config: object) -> PreTrainedModel:
    """The model class `kind` + `ending` of transformers, with its config."""
    names = {"Gemma3": "Gemma3Text", "Gemma3n": "Gemma3nText", "Gemma4": "Gemma4Text", "Llama4": "Llama4Text"}
    names |= {"Qwen3_5": "Qwen3_5Text", "Qwen3_5Moe": "Qwen3_5MoeText"}
    return getattr(transformers, kind + ending)(getattr(transformers, f"{names.get(kind, kind)}Config")(**config))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """The special tokens of a config, from the tokenizer."""
    return {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}


def embeddings(tokenizer: PreTrainedTokenizerBase) -> int:
    """Embeddings of a model for this tokenizer: a multiple of 8, and some more than there are tokens, as most have."""
    return 8 * (len(tokenizer) // 8 + 2)


def save(tiny: Tiny, folder: Path) -> None:
    """Writes a tiny model to `folder`, as a published one lies there."""
    model, tokenizer = tiny
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
