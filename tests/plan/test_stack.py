"""The sizes of a decoder and an encoder by hand, for families whose configs say them in other words."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from job.plan.dimensions import read_dimensions
from job.plan.stack import Stack, decays
from tests.zoo.families import FAMILIES


def stacks(kind: str, **sizes: object) -> list[Stack]:
    return read_dimensions(CONFIG_MAPPING[kind](pad_token_id=0, bos_token_id=0, eos_token_id=1, **sizes)).stacks


def test_encoder_and_decoder_have_their_own_sizes():
    """BART: attention of 4 x 48 x 48 each, two in the decoder; a feed-forward of two matrices."""
    encoder, decoder = stacks(
        "bart", d_model=48, encoder_layers=3, decoder_layers=2, encoder_ffn_dim=96, decoder_ffn_dim=64, encoder_attention_heads=4,
        decoder_attention_heads=6, vocab_size=100,
    )  # fmt: skip
    assert encoder == Stack(3, 48, 96, 48, 48, 4, touched=3 * (4 * 48 * 48 + 2 * 48 * 96), state=0)
    assert decoder == Stack(2, 48, 64, 48, 48, 6, touched=2 * (8 * 48 * 48 + 2 * 48 * 64), state=0)


def test_sizes_that_are_nested_are_found():
    """T5Gemma: grouped keys, a gated feed-forward, and a decoder that reads an encoder of another width."""
    wide = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    narrow = wide | {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2}
    encoder, decoder = stacks("t5gemma", encoder=wide | {"head_dim": 8}, decoder=narrow | {"head_dim": 8}, vocab_size=100)
    own, crossing = 2 * 32 * 32 + 2 * 32 * 16, 2 * 32 * 32 + 2 * 64 * 16
    assert encoder == Stack(3, 64, 160, 32, 16, 4, touched=3 * (2 * 64 * 32 + 2 * 64 * 16 + 3 * 64 * 160), state=0)
    assert decoder == Stack(2, 32, 96, 32, 16, 4, touched=2 * (own + crossing + 3 * 32 * 96), state=0)


def test_of_experts_those_that_a_token_goes_through_are_counted():
    """Mixtral: two of four; the matrix that chooses them is not a linear layer."""
    (found,) = stacks(
        "mixtral", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=4, num_experts_per_tok=2, vocab_size=100,
    )  # fmt: skip
    attention, expert = 2 * 32 * 32 + 2 * 32 * 16, 3 * 32 * 64
    assert found.inner == 2 * 64
    assert 0 <= found.touched - 2 * (attention + 2 * expert) <= 2 * 4 * 32


def test_a_head_is_as_wide_as_its_widest_part():
    """DeepSeek: queries and keys of 8 + 16, values of 12."""
    (found,) = stacks(
        "deepseek_v3", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=12, n_routed_experts=4,
        num_experts_per_tok=2, n_group=2, topk_group=1, moe_intermediate_size=32, vocab_size=100,
    )  # fmt: skip
    assert (found.attention, found.key_value, found.heads) == (4 * 24, 4 * 24, 4)


def test_falcons_heads_share_one_key_and_value_unless_the_config_says_otherwise():
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 100}
    assert stacks("falcon", **sizes)[0].key_value == 16
    assert stacks("falcon", **sizes, multi_query=False)[0].key_value == 64
    assert stacks("falcon", **sizes, new_decoder_architecture=True, num_kv_heads=2)[0].key_value == 32


def test_a_state_space_has_channels_and_states_instead_of_heads():
    (found,) = stacks("mamba", hidden_size=32, num_hidden_layers=3, state_size=8, expand=2, time_step_rank=4, vocab_size=100)
    matrices = 32 * 128 + 64 * (4 + 16) + 4 * 64 + 64 * 32
    assert found == Stack(3, 32, inner=0, attention=64, key_value=0, heads=0, touched=3 * matrices, state=8)
    (later,) = stacks(
        "mamba2", hidden_size=32, num_hidden_layers=1, state_size=8, num_heads=8, head_dim=8, n_groups=1, vocab_size=100
    )
    assert (later.attention, later.state) == (64, 0)


def test_of_sizes_that_differ_between_blocks_the_largest_counts():
    """Gemma 4: heads of full attention are wider than those with a window."""
    config = CONFIG_MAPPING["gemma4_text"](num_hidden_layers=6, vocab_size=100, vocab_size_per_layer_input=100)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    widths = {module.out_features for name, module in model.named_modules() if name.endswith(".q_proj")}
    assert len(widths) == 2
    assert read_dimensions(config).decoder.attention == max(widths)


def test_models_that_transformers_cannot_recompute_have_blocks_too():
    """CTRL: a block has four square matrices and a feed-forward of two."""
    (found,) = stacks("ctrl", n_embd=32, dff=48, n_layer=3, n_head=4, vocab_size=100, n_positions=64)
    assert (found.layers, found.width, found.touched) == (3, 32, 3 * (4 * 32 * 32 + 2 * 32 * 48))


def test_decays_are_known_by_their_name():
    assert [tuple(decay.shape) for decay in decays(FAMILIES["mamba"]()[0])] == [(64, 8)] * 2
    assert decays(FAMILIES["llama"]()[0]) == []


@pytest.mark.parametrize("family", ["gpt2", "falcon", "gemma3", "glm4", "phi", "gpt_neox", "opt", "mpt"])
def test_a_token_is_multiplied_with_as_many_parameters_as_torch_counts(family):
    """Two FLOPs a parameter in a forward pass of the linear layers; scores and rotations left out."""
    config = FAMILIES[family]()[0].config
    model, dimensions = AutoModelForCausalLM.from_config(config, attn_implementation="eager"), read_dimensions(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(1, 16, dtype=torch.long), use_cache=False)
    counted = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "bmm" not in str(name))
    head = dimensions.vocabulary * dimensions.decoder.width
    assert counted == 2 * 16 * (dimensions.decoder.touched + head)
