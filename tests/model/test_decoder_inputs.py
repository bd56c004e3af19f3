"""What a decoder reads, against the library's own shift where a family has one."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from job.model.decoder_inputs import decoder_start_token, shift_right
from job.model.packing import padding_collator
from tests.zoo.families import build

WITH_A_SHIFT = ("t5", "umt5", "bart", "led", "pegasus", "marian", "t5gemma", "t5gemma2", "prophetnet", "longt5_global", "switch")
WITHOUT = ("m2m100", "nllb", "blenderbot")

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # by Marian's tokenizer


def load(name, folder):
    build(name, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), tokenizer


def test_labels_are_shifted_by_one_and_what_is_ignored_is_padding():
    assert shift_right([7, 8, 1], 2, 0) == [2, 7, 8]
    assert shift_right([-100, 8, -100, 1], 2, 0) == [2, 0, 8, 0]


@pytest.mark.parametrize("family", WITH_A_SHIFT)
def test_it_is_the_familys_own_shift(family, tmp_path):
    model, _ = load(family, tmp_path)
    labels = torch.tensor([[7, 8, 9, 1]])
    shifted = shift_right(labels[0].tolist(), decoder_start_token(model), 0)
    assert shifted == model.prepare_decoder_input_ids_from_labels(labels=labels)[0].tolist()


@pytest.mark.parametrize("family", WITHOUT)
def test_a_family_that_has_none_gets_what_its_forward_pass_makes_of_labels(family, tmp_path):
    model, tokenizer = load(family, tmp_path)
    assert not hasattr(model, "prepare_decoder_input_ids_from_labels")
    row = {"input_ids": [9, 8, 7, 2], "labels": [7, 8, 2]}
    batch = padding_collator(model, tokenizer)([row])
    labels = batch.pop("labels")
    with torch.no_grad():
        ours = model(**batch).logits[0, : (labels != -100).sum()]
        theirs = model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).logits[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
