"""A model whose losses depend on the padding of a row is refused before it is trained."""

import pytest
import torch
from datasets import Dataset

from job.errors import SettingsError
from job.preflight.padding import check_padding
from tests.tiny_models import adapted, load, rows


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_is_the_same_beside_longer_ones_is_fine_in_any_type(kind, dtype, request, tokenizer):
    folder = request.getfixturevalue(kind)
    model = adapted(load(folder, dtype), dtype).train()
    check_padding(model, Dataset.from_list(rows("llama" in kind)), tokenizer)
    assert model.training
    assert model.get_input_embeddings().weight.dtype == dtype, "as it was"


def test_a_model_that_sees_its_padding_is_named_with_both_losses(t5_folder, tokenizer, monkeypatch):
    model = adapted(load(t5_folder))
    usual = model.forward
    monkeypatch.setattr(model, "forward", lambda decoder_input_ids, **inputs: _moved(usual, decoder_input_ids, inputs))
    with pytest.raises(SettingsError, match=r"a t5 gives a row another loss beside longer ones \(\S+\) than alone \(\S+\)"):
        check_padding(model, Dataset.from_list(rows(causal=False)), tokenizer)


def _moved(forward, decoder_input_ids, inputs):
    output = forward(decoder_input_ids=decoder_input_ids, **inputs)
    output.logits[..., 5] += decoder_input_ids.shape[1]  # as ProphetNet's, whose buckets depend on the length
    return output
