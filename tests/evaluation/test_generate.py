"""Generation and losses: batches, order and padding change nothing."""

import pytest
import torch
from transformers import AutoTokenizer

from job.evaluation.generate import Decoding, generate, measure_losses, prompt_of
from job.model.load import BaseModel, load_base

PROMPTS = [[20, 30, 40, 1], [25, 1], [50, 60, 70, 80, 90, 100, 1], [33, 44, 1], [99, 1]]


@pytest.fixture(params=["t5_folder", "llama_folder"])
def loaded(request):
    folder = request.getfixturevalue(request.param)
    seq2seq = request.param == "t5_folder"
    return load_base(BaseModel(str(folder)), seq2seq, torch.float32, None, "cpu").eval(), AutoTokenizer.from_pretrained(folder)


def test_batches_answer_as_single_rows_do_in_the_order_of_the_rows(loaded):
    model, tokenizer = loaded
    expected = []
    for prompt in PROMPTS:
        tokens = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)
        answer = tokens[0] if model.config.is_encoder_decoder else tokens[0, len(prompt) :]
        expected.append(tokenizer.decode(answer, skip_special_tokens=True).strip())
    assert len(set(expected)) > 1
    for batch_size in (1, 2, 5):
        assert generate(model, tokenizer, PROMPTS, Decoding(batch_size, 6, 1)) == expected


def test_a_models_own_wish_to_sample_is_not_followed(loaded):
    model, tokenizer = loaded
    greedy = generate(model, tokenizer, PROMPTS, Decoding(2, 6, 1))
    model.generation_config.do_sample, model.generation_config.temperature = True, 5.0
    assert generate(model, tokenizer, PROMPTS, Decoding(2, 6, 1)) == greedy


def test_the_loss_of_a_row_is_the_librarys_for_that_row_alone(loaded):
    model, tokenizer = loaded
    pairs = [([20, 30, 40, 1], [5, 6, 1]), ([25, 1], [7, 1]), ([50, 60, 70, 80, 1], [9, 10, 11, 12, 1])]
    if model.config.is_encoder_decoder:
        rows = [{"input_ids": source, "labels": target} for source, target in pairs]
    else:
        rows = [{"input_ids": source + target, "labels": [-100] * len(source) + target} for source, target in pairs]
    with torch.no_grad():
        expected = [
            model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item() for row in rows
        ]
    for batch_size in (1, 2, 3):
        assert measure_losses(model, tokenizer, rows, Decoding(batch_size, 6, 1)) == pytest.approx(expected, rel=1e-5)


def test_the_prompt_of_a_causal_row_ends_where_the_last_answer_begins():
    row = {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, 2, -100, -100, 5, 6]}
    assert prompt_of(row, seq2seq=False) == [1, 2, 3, 4]
    assert prompt_of(row, seq2seq=True) == [1, 2, 3, 4, 5, 6]
    assert prompt_of({"input_ids": [1, 2, 3], "labels": [-100, 2, -100]}, seq2seq=False) == [1]
