"""Configs of well-known models make the models that are published."""

import tomllib

import pytest

from job.plan.dimensions import read_dimensions
from job.plan.model_catalogue import MODELS, known_config

EXACT = {  # parameters, as the hub shows them
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "google-t5/t5-small": 60_506_624,
    "google-t5/t5-base": 222_903_552,
    "google-t5/t5-large": 737_668_096,
    "google/mt5-small": 300_176_768,
    "google/mt5-base": 582_401_280,
    "google/mt5-large": 1_229_581_312,
    "google/mt5-xl": 3_742_619_648,
    "google/byt5-small": 299_637_760,
    "google/byt5-base": 581_653_248,
    "facebook/bart-base": 139_420_416,
    "facebook/bart-large": 406_291_456,
    "facebook/bart-large-cnn": 406_290_432,
    "facebook/bart-large-xsum": 406_290_432,
    "facebook/mbart-large-50-many-to-many-mmt": 610_879_488,
    "facebook/nllb-200-distilled-600M": 615_073_792,
}
ROUNDED = {  # billions, as papers and model cards say: mT5, ByT5 (table 1), UMT5, T5Gemma; T5Gemma 2 without its vision tower
    "google/mt5-xxl": 12.9, "google/byt5-large": 1.23, "google/byt5-xl": 3.74, "google/byt5-xxl": 12.9, "google/umt5-small": 0.3,
    "google/umt5-base": 0.6, "google/umt5-xl": 3.7, "google/umt5-xxl": 13, "google/t5gemma-2b-2b-prefixlm": 5.6,
    "google/t5gemma-9b-2b-prefixlm": 12.3, "google/t5gemma-9b-9b-prefixlm": 20.3, "google/t5gemma-2-270m-270m": 0.37,
    "google/t5gemma-2-1b-1b": 1.7, "google/t5gemma-2-4b-4b": 7.1,
}  # fmt: skip
SIGLIP = 0.417
"""Billions of the vision tower of Gemma 3 and T5Gemma 2."""


@pytest.mark.parametrize("model_id", EXACT)
def test_a_config_makes_a_model_of_the_published_number_of_parameters(model_id):
    assert read_dimensions(known_config(model_id)).parameters == EXACT[model_id]


@pytest.mark.parametrize("model_id", ROUNDED)
def test_a_config_makes_a_model_of_the_size_that_its_makers_tell(model_id):
    found = read_dimensions(known_config(model_id)).parameters / 1e9
    assert found - (SIGLIP if "t5gemma-2-" in model_id else 0) == pytest.approx(ROUNDED[model_id], rel=0.025)


def test_the_encoder_of_umt5_xxl_has_the_parameters_that_those_who_use_it_alone_tell():
    """5.68 billion with its embedding, in Wan 2.1."""
    dimensions = read_dimensions(known_config("google/umt5-xxl"))
    assert dimensions.encoder.touched + dimensions.embeddings / 2 == pytest.approx(5.68e9, rel=1e-3)


def test_models_that_share_a_config_share_it():
    one, other = known_config("google/t5gemma-9b-2b-prefixlm"), known_config("google/t5gemma-9b-2b-ul2-it")
    assert one.to_dict() == other.to_dict()
    assert (one.encoder.hidden_size, one.decoder.hidden_size, one.encoder.head_dim) == (3584, 2304, 256)


def test_every_model_of_the_table_is_checked_here_or_among_the_dimensions():
    flan = {f"google/flan-t5-{size}" for size in ("small", "base", "large", "xl", "xxl")}
    table = tomllib.loads(MODELS.read_text())
    alone = {model_id for model_id, entry in table.items() if set(entry) != {"same_as"}}
    assert alone | {"facebook/bart-large-xsum"} == flan | set(EXACT) | set(ROUNDED)
    assert all(entry["same_as"] in table for entry in table.values() if "same_as" in entry)


def test_a_flan_t5_is_a_gated_t5_whose_decoder_starts_with_token_0():
    config = known_config("google/flan-t5-xl")
    assert (config.model_type, config.is_gated_act, config.decoder_start_token_id) == ("t5", True, 0)
    assert (config.vocab_size, config.d_kv, config.num_decoder_layers) == (32128, 64, 24)


@pytest.mark.parametrize("model_id", ["google/flan-t5", "t5", "", "GOOGLE/FLAN-T5-XL"])
def test_another_model_is_not_known(model_id):
    assert known_config(model_id) is None
