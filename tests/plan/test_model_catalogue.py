"""Configs of well-known models make the models that are published."""

import tomllib

import pytest
import torch
from transformers import AutoModelForCausalLM

from job.plan.model_catalogue import MODELS, known_config

CAUSAL = {  # parameters, as the hub shows them
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
}


@pytest.mark.parametrize("model_id", CAUSAL)
def test_a_causal_config_makes_a_model_of_the_published_number_of_parameters(model_id):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known_config(model_id))
    assert sum(parameter.numel() for parameter in model.parameters()) == CAUSAL[model_id]


def test_every_model_of_the_table_is_checked_here_or_among_the_dimensions():
    flan = {f"google/flan-t5-{size}" for size in ("small", "base", "large", "xl", "xxl")}
    assert set(tomllib.loads(MODELS.read_text())) == flan | set(CAUSAL)


def test_a_flan_t5_is_a_gated_t5_whose_decoder_starts_with_token_0():
    config = known_config("google/flan-t5-xl")
    assert (config.model_type, config.is_gated_act, config.decoder_start_token_id) == ("t5", True, 0)
    assert (config.vocab_size, config.d_kv, config.num_decoder_layers) == (32128, 64, 24)


@pytest.mark.parametrize("model_id", ["google/flan-t5", "t5", "", "GOOGLE/FLAN-T5-XL"])
def test_another_model_is_not_known(model_id):
    assert known_config(model_id) is None
