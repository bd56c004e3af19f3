"""Configs of well-known models, from `models.toml`: a plan of them needs no network."""

import tomllib
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

MODELS = Path(__file__).parent / "models.toml"
T5_V1_1 = {
    "vocab_size": 32128, "d_kv": 64, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "tie_word_embeddings": False
}  # fmt: skip


def known_config(model_id: str) -> PreTrainedConfig | None:
    """The config of the model with this hub id, None if the table does not have it."""
    table = tomllib.loads(MODELS.read_text())
    if model_id not in table:
        return None
    entry = _entry(table, model_id)
    return AutoConfig.for_model(**((T5_V1_1 if entry["model_type"].endswith("t5") else {}) | entry))


def _entry(table: dict[str, Any], model_id: str) -> dict[str, Any]:
    """What `table` says of a model, with what it says of the one that it is the same as."""
    entry = dict(table[model_id])
    other = entry.pop("same_as", None)
    return _merged(_entry(table, other), entry) if other else entry


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """`first` with what `second` says, in nested tables too."""
    nested = {name: _merged(first[name], value) for name, value in second.items() if isinstance(value, dict) and name in first}
    return first | second | nested
