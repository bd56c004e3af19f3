"""A model whose losses depend on the padding of a row is refused before it is trained."""

import pytest
import torch
from datasets import Dataset

from job.errors import SettingsError
from job.preflight.padding import check_padding
from tests.preflight.material import alone
from tests.tiny_models import adapted, load, rows


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_is_the_same_beside_longer_ones_is_fine_in_any_type(kind, dtype, request, tokenizer):
    folder = request.getfixturevalue(kind)
    model = adapted(load(folder, dtype), dtype).train()
    check_padding(alone(model, Dataset.from_list(rows("llama" in kind)), tokenizer))
    assert model.training
    assert model.get_input_embeddings().weight.dtype == dtype, "as it was"


def test_a_model_that_sees_its_padding_is_named_with_both_losses(t5_folder, tokenizer, monkeypatch):
    model = adapted(load(t5_folder))
    usual = model.forward
    monkeypatch.setattr(model, "forward", lambda decoder_input_ids, **inputs: _moved(usual, decoder_input_ids, inputs))
    with pytest.raises(SettingsError, match=r"a t5 gives a row another loss beside longer ones \(\S+\) than alone \(\S+\)"):
        check_padding(alone(model, Dataset.from_list(rows(causal=False)), tokenizer))


def _moved(forward, decoder_input_ids, inputs):
    output = forward(decoder_input_ids=decoder_input_ids, **inputs)
    output.logits[..., 5] += decoder_input_ids.shape[1]  # as ProphetNet's, whose buckets depend on the length
    return output


def table(*lengths: tuple[int, int]) -> Dataset:
    """Rows of inputs and answers so long."""
    return Dataset.from_list([{"input_ids": [7] * source, "labels": [9] * target} for source, target in lengths])


def test_answers_of_one_length_do_not_hide_a_model_that_sees_its_padded_inputs(t5_folder, tokenizer, monkeypatch):
    """A row beside itself would be the same whatever the model does."""
    model = adapted(load(t5_folder))
    usual = model.forward

    def forward(input_ids, **inputs):
        output = usual(input_ids=input_ids, **inputs)
        output.logits[..., 5] += input_ids.shape[1]
        return output

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(SettingsError, match="another loss beside longer ones"):
        check_padding(alone(model, table((9, 4), (5, 4), (12, 4)), tokenizer))


def test_a_short_input_with_the_longest_answer_does_not_hide_a_model_that_sees_padded_answers(t5_folder, tokenizer, monkeypatch):
    model = adapted(load(t5_folder))
    usual = model.forward
    monkeypatch.setattr(model, "forward", lambda decoder_input_ids, **inputs: _moved(usual, decoder_input_ids, inputs))
    with pytest.raises(SettingsError, match="another loss beside longer ones"):
        check_padding(alone(model, table((5, 12), (9, 4), (12, 4)), tokenizer))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_few_rows_as_there_are_will_do(t5_folder, tokenizer, count):
    check_padding(alone(adapted(load(t5_folder)), table((9, 4), (5, 4), (12, 4)).select(range(count)), tokenizer))
