"""Configs of well-known models, from `models.toml`: a plan of them needs no network."""

import tomllib
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

MODELS = Path(__file__).parent / "models.toml"
T5_V1_1 = {"vocab_size": 32128, "d_kv": 64, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0}


def known_config(model_id: str) -> PreTrainedConfig | None:
    """The config of the model with this hub id, None if the table does not have it."""
    entry = tomllib.loads(MODELS.read_text()).get(model_id)
    if entry is None:
        return None
    return AutoConfig.for_model(**((T5_V1_1 if entry["model_type"] == "t5" else {}) | entry))
