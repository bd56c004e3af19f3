"""What `job.model.patches` relies on in torch, transformers and bitsandbytes: each test says which patch a new version breaks."""

import inspect

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn
from transformers import AutoModelForSeq2SeqLM, T5Config
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.t5.modeling_t5 import T5Block, T5PreTrainedModel, T5Stack

from job.model.patches import CROSS_BIAS, POSITION_BIAS, attention_implementation, fuse_gelu, head_computes, replace_shared_biases


@pytest.fixture
def model(t5_folder):
    return AutoModelForSeq2SeqLM.from_pretrained(t5_folder).eval()


@pytest.fixture
def inputs():
    return {"input_ids": torch.arange(3, 12)[None], "decoder_input_ids": torch.arange(3, 8)[None]}


def test_a_t5_block_takes_its_biases_where_the_patch_puts_them():
    names = list(inspect.signature(T5Block.forward).parameters)[1:]
    said = "transformers moved the arguments of T5Block.forward: change POSITION_BIAS and CROSS_BIAS in job/model/patches.py"
    assert (names[POSITION_BIAS], names[CROSS_BIAS]) == ("position_bias", "encoder_decoder_position_bias"), said


def test_a_t5_stack_hands_the_biases_on_by_position(model, inputs):
    seen = []
    model.decoder.block[0].register_forward_pre_hook(lambda block, args: seen.append(len(args)))
    model(**inputs)
    assert seen[0] > CROSS_BIAS, f"T5Stack calls its blocks with keywords now, see {inspect.getfile(T5Stack)}"


def test_biases_that_are_replaced_reach_every_block(model, inputs):
    """A bias that hides all but the first token of the input changes what the last block of the encoder is given."""
    seen = []
    model.encoder.block[-1].register_forward_pre_hook(lambda block, args: seen.append(args[POSITION_BIAS]))
    replace_shared_biases(model, lambda block, kwargs: None if block.is_decoder else (torch.full((1, 4, 9, 9), 7.0), None))
    model(**inputs)
    assert torch.equal(seen[0], torch.full((1, 4, 9, 9), 7.0)), "blocks do not share the first one's bias any more"


def test_without_other_biases_a_patched_t5_computes_what_it_did(model, inputs):
    before = model(**inputs).logits
    replace_shared_biases(model, lambda block, kwargs: None)
    assert torch.equal(model(**inputs).logits, before)


def test_transformers_keeps_wo_and_nothing_else_of_a_t5_in_float32():
    said = "quantised_wo in job/model/patches.py empties this list while NF4 weights are loaded"
    assert T5PreTrainedModel._keep_in_fp32_modules == ["wo"], said


def test_bitsandbytes_still_asks_a_layer_whether_to_repack_it():
    layer = Linear4bit(8, 8)
    assert hasattr(layer, "support_avx512bf16_for_cpu"), "keep_nf4_weights in job/model/patches.py sets what nobody reads any more"
    assert hasattr(layer, "compute_dtype"), "keep_wo_in_float32 in job/model/patches.py sets what nobody reads any more"


def test_a_gated_gelu_t5_has_a_gelu_to_fuse_in_each_feed_forward(model):
    fuse_gelu(model)
    fused = [module for module in model.modules() if isinstance(module, nn.GELU)]
    assert len(fused) == 2 * T5Config.from_pretrained(model.config._name_or_path).num_layers, "T5's gelu_new has another class now"
    assert all(module.approximate == "tanh" for module in fused)


def test_the_attention_of_a_model_can_be_read_and_set(model):
    model.set_attn_implementation("eager")
    assert attention_implementation(model) == "eager"


def test_t5_blocks_are_layers_that_can_be_checkpointed_one_by_one(model):
    assert all(isinstance(block, GradientCheckpointingLayer) for block in model.encoder.block)
    assert all(hasattr(block, "gradient_checkpointing") for block in model.encoder.block)


def test_a_head_that_was_replaced_computes_as_before_afterwards(model, inputs):
    before = model(**inputs).logits
    with head_computes(model.lm_head, lambda hidden: hidden):
        assert model(**inputs).logits.shape == (1, 5, 32), "the model does not call its head's forward any more"
    assert torch.equal(model(**inputs).logits, before)
