"""Blocks are recomputed, as many as asked for and the encoder's first, and nothing else changes."""

import contextlib
from collections import Counter

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from job.model.checkpointing import checkpoint_all_blocks, checkpoint_blocks, recomputing_in_evaluation, transformer_blocks
from job.model.objective import Objective
from job.model.packing import padding_collator
from tests.tiny_models import adapted, load, rows
from tests.zoo.families import FAMILIES

KINDS = {"t5_folder": ["encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"],
         "llama_folder": ["model.layers.0", "model.layers.1"]}  # fmt: skip
"""Names of the blocks in the order of the computation."""


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


def step(model, tokenizer) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the tiny rows."""
    causal = not model.config.is_encoder_decoder
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in rows(causal)]
    loss = Objective(model.train())(model, padding_collator(model, tokenizer)(data))
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_blocks_are_those_of_the_model_in_the_order_of_the_computation(kind, request):
    model = load(request.getfixturevalue(kind))
    names = {module: name for name, module in model.named_modules()}
    assert [names[block] for block in transformer_blocks(model)] == KINDS[kind]


def test_as_many_blocks_as_asked_for_compute_twice_the_first_ones_first(kind, request, tokenizer):
    for blocks in range(len(KINDS[kind]) + 1):
        model = adapted(load(request.getfixturevalue(kind)))
        checkpoint_blocks(model, blocks)
        computed: Counter[str] = Counter()
        for name, block in zip(KINDS[kind], transformer_blocks(model), strict=True):
            attention = block.self_attn if kind == "llama_folder" else block.layer[0]
            attention.register_forward_pre_hook(lambda *_, name=name, count=computed: count.update([name]))
        computed.clear()
        step(model, tokenizer)
        probes = 2  # of the objective, which looks whether the head comes last
        assert [computed[name] - probes for name in KINDS[kind]] == [2] * blocks + [1] * (len(KINDS[kind]) - blocks)


def test_the_loss_and_the_gradient_are_the_same(kind, request, tokenizer):
    found = []
    for blocks in (0, 1, len(KINDS[kind])):
        model = adapted(load(request.getfixturevalue(kind), torch.float64), torch.float64)
        checkpoint_blocks(model, blocks)
        found.append(step(model, tokenizer))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-12)
        assert torch.allclose(gradient, found[0][1], atol=1e-12)


def test_no_blocks_leave_the_model_alone(kind, request):
    model = load(request.getfixturevalue(kind))
    checkpoint_blocks(model, 0)
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize(
    ("family", "blocks"),
    [
        ("gemma3_with_vision", ["model.language_model.layers.0", "model.language_model.layers.1"]),
        ("t5gemma2", [f"model.{side}.layers.{number}" for side in ("encoder.text_model", "decoder") for number in (0, 1)]),
        ("zamba2", ["model.layers.0", "model.layers.1"]),
    ],
)
def test_blocks_are_those_that_text_passes_and_of_nested_ones_the_outer(family, blocks):
    model, _ = FAMILIES[family]()
    names = {module: name for name, module in model.named_modules()}
    assert [names[block] for block in transformer_blocks(model)] == blocks
    checkpoint_blocks(model, 1)
    recomputed = [name for module, name in names.items() if getattr(module, "gradient_checkpointing", False)]
    assert [name for name in recomputed if isinstance(model.get_submodule(name), GradientCheckpointingLayer)] == blocks[:1]


def test_a_kind_that_cannot_recompute_is_told(caplog):
    torch.manual_seed(0)
    model, _ = FAMILIES["openai_gpt"]()
    checkpoint_blocks(model, 2)
    assert "a openai-gpt recomputes no blocks" in caplog.text


def test_in_evaluation_the_same_blocks_recompute_while_asked_to_and_no_longer(kind, request, tokenizer):
    model = adapted(load(request.getfixturevalue(kind)))
    checkpoint_blocks(model, 1)
    computed: Counter[str] = Counter()
    for name, block in zip(KINDS[kind], transformer_blocks(model), strict=True):
        attention = block.self_attn if kind == "llama_folder" else block.layer[0]
        attention.register_forward_pre_hook(lambda *_, name=name: computed.update([name]))
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in rows(not model.config.is_encoder_decoder)]
    objective, batch = Objective(model), padding_collator(model, tokenizer)(data)
    gradients = []
    for wanted in (recomputing_in_evaluation(model), contextlib.nullcontext()):
        computed.clear()
        with wanted:
            objective(model.eval(), batch).backward()
        gradients.append((dict(computed), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        model.zero_grad()
    (again, found), (once, expected) = gradients
    assert again == dict.fromkeys(KINDS[kind], 1) | {KINDS[kind][0]: 2}
    assert once == dict.fromkeys(KINDS[kind], 1)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-7) for one, other in zip(found, expected, strict=True))


def test_all_blocks_are_recomputed_once_for_good(kind, request):
    model = adapted(load(request.getfixturevalue(kind)))
    checkpoint_blocks(model, 1)
    assert [checkpoint_all_blocks(model), checkpoint_all_blocks(model)] == [True, False]
    assert all(block.gradient_checkpointing for block in transformer_blocks(model))
