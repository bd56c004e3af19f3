"""Packing is taken only where it is exact, and on a GPU where it is faster."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from job.model.packing import PACKED, accept_packed
from job.preflight.packing import packing_is_exact, packing_is_faster
from tests.tiny_models import adapted, load, rows


def packs_exactly(model, folder, causal: bool) -> bool:
    accept_packed(model.get_base_model())
    return packing_is_exact(model, Dataset.from_list(rows(causal)), AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packing_is_exact_for_t5_and_causal_models(kind, dtype, request):
    folder = request.getfixturevalue(kind)
    assert packs_exactly(adapted(load(folder, dtype)), folder, "llama" in kind)


def test_rows_that_see_each_other_are_noticed(t5_folder, monkeypatch, caplog):
    model = adapted(load(t5_folder))
    monkeypatch.setattr("job.model.packing._row_biases", lambda block, kwargs: None)
    assert not packs_exactly(model, t5_folder, causal=False)
    assert "PADDING_FREE: " in caplog.text
    assert "is trained with padding" in caplog.text


def test_a_sliding_window_that_rows_are_longer_than_is_noticed(tmp_path, llama_folder, caplog):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        sliding_window=8, pad_token_id=0,
    )  # fmt: skip
    assert not packs_exactly(adapted(MistralForCausalLM(config)), llama_folder, causal=True)
    assert "packed rows are not what padded rows are for mistral" in caplog.text
    config.sliding_window = 64
    assert packs_exactly(adapted(MistralForCausalLM(config)), llama_folder, causal=True)


def test_the_faster_way_is_found_by_the_clock(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    accept_packed(model.get_base_model())
    assert model.config._attn_implementation == PACKED
    data, tokenizer = Dataset.from_list(rows(causal=False)), AutoTokenizer.from_pretrained(t5_folder)
    for slow, expected in ((1.0, True), (1 / 9, False)):  # seconds of a padded round; a packed one takes a third
        times = iter([moment for _ in range(4) for moment in (0.0, slow, 0.0, 1 / 3)])
        monkeypatch.setattr("job.preflight.packing.time.perf_counter", lambda times=times: next(times))
        assert packing_is_faster(model, data, tokenizer, 2) is expected
    assert all(parameter.grad is None for parameter in model.parameters())


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("injected")


def test_two_rows_that_do_not_fit_at_once_are_not_packed_and_that_is_no_warning(t5_folder, monkeypatch, caplog):
    monkeypatch.setattr("job.preflight.packing.loss_and_gradient", out_of_memory)
    model = adapted(load(t5_folder)).train()
    assert not packs_exactly(model, t5_folder, causal=False)
    assert "PADDING_FREE" not in caplog.text
    assert model.training, "as it was"


def test_padded_rows_that_do_not_fit_where_packed_ones_may_are_packed(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    accept_packed(model.get_base_model())
    monkeypatch.setattr("job.preflight.packing._time", out_of_memory)
    assert packing_is_faster(model, Dataset.from_list(rows(causal=False)), AutoTokenizer.from_pretrained(t5_folder), 2)


@pytest.mark.parametrize(("off", "expected"), [(0.5e-4, True), (2e-4, False)])
def test_a_loss_that_is_off_by_more_than_float32_rounds_is_not_exact(t5_folder, monkeypatch, off, expected):
    gradient = torch.ones(3)
    found = iter([(2.0, gradient, None), (2.0 * (1 + off), gradient, None)])
    monkeypatch.setattr("job.preflight.packing.loss_and_gradient", lambda *_: next(found))
    assert packs_exactly(adapted(load(t5_folder)), t5_folder, causal=False) is expected
