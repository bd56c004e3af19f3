"""How many tokens a model takes, by the names that the families' configs have for it."""

from types import SimpleNamespace

import pytest
from transformers import GPT2Config, LEDConfig, LlamaConfig, MptConfig, OPTConfig, PegasusConfig, T5Config, T5GemmaConfig

from job.model.positions import read_positions, usual_length


@pytest.mark.parametrize(("config", "positions"), [
    (T5Config(), (None, None)), (LlamaConfig(max_position_embeddings=96), (96, 96)), (GPT2Config(n_positions=64), (64, 64)),
    (OPTConfig(max_position_embeddings=64), (64, 64)), (MptConfig(max_seq_len=48), (48, 48)),
    (PegasusConfig(max_position_embeddings=32), (32, 32)),
    (LEDConfig(max_encoder_position_embeddings=256, max_decoder_position_embeddings=128), (256, 128)),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_the_limit_is_found_under_every_name(config, positions):
    found = read_positions(config)
    assert (found.source, found.target) == positions


@pytest.mark.parametrize(("says", "length"), [(32, 32), (10**30, 64), (100, 64)])
def test_what_a_model_was_made_for_is_the_tokenizers_limit_within_the_positions(says, length):
    assert usual_length(GPT2Config(n_positions=64), SimpleNamespace(model_max_length=says)) == length
    assert usual_length(T5Config(), SimpleNamespace(model_max_length=10**30)) is None


@pytest.mark.parametrize(("prompt", "room"), [(10, 20), (50, 14), (63, 1), (70, 1)])
def test_a_causal_models_answer_has_what_its_prompt_leaves(prompt, room):
    assert read_positions(GPT2Config(n_positions=64)).room(prompt, 20) == room


def test_an_encoder_decoders_answer_has_the_decoders_positions():
    assert read_positions(LEDConfig(max_decoder_position_embeddings=16)).room(500, 20) == 16
    assert read_positions(T5Config()).room(500, 20) == 20


@pytest.mark.parametrize("config", [LlamaConfig(max_position_embeddings=64), T5GemmaConfig()], ids=["llama", "t5gemma"])
def test_rotary_positions_go_on_behind_those_that_were_trained(config):
    assert read_positions(config).room(60, 20) == 20
