"""Generation and losses: batches, order and padding change nothing."""

import pytest
import torch
from transformers import AutoTokenizer

from job.errors import OutOfMemory
from job.evaluation.generate import (
    Decoding,
    confidences,
    decode,
    generate,
    generate_ids,
    generation_config,
    measure_losses,
    prompt_of,
)
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


def test_an_answer_ends_with_its_first_end_marker_or_where_it_is_cut(loaded, monkeypatch):
    model, tokenizer = loaded
    first = torch.tensor([[0]] * 2) if model.config.is_encoder_decoder else torch.tensor([[25, 1], [99, 1]])
    made = torch.tensor([[7, 8, 1, 0, 0], [9, 1, 5, 1, 0]])
    monkeypatch.setattr(model, "generate", lambda **_: torch.cat([first, made], 1))
    assert generate_ids(model, tokenizer, [[25, 1], [99, 1]], Decoding(2, 5, 1)) == [[7, 8, 1], [9, 1]]
    model.generation_config.eos_token_id = [1, 8]
    assert generate_ids(model, tokenizer, [[25, 1], [99, 1]], Decoding(2, 5, 1)) == [[7, 8], [9, 1]]


def test_no_answer_is_longer_than_it_may_be(loaded):
    model, tokenizer = loaded
    model.generation_config.eos_token_id = 399 if model.config.is_encoder_decoder else 383
    assert {len(ids) for ids in generate_ids(model, tokenizer, PROMPTS, Decoding(2, 3, 1))} == {3}


def test_the_confidence_of_an_answer_is_the_mean_log_probability_of_its_tokens(loaded):
    """Added up token by token from the logits of the row alone, in float64."""
    model, tokenizer = loaded
    answers = [[5, 6, 1], [7, 1], [9, 10, 11, 12, 1], [1], [40, 41]]
    expected = []
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *answer[:-1]]])).logits[0]
            else:
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        likelihoods = logits.double().log_softmax(-1)
        expected.append(sum(likelihoods[place, token].item() for place, token in enumerate(answer)) / len(answer))
    assert confidences(model, tokenizer, PROMPTS, answers, Decoding(2, 6, 1)) == pytest.approx(expected, rel=1e-5)


def limited(function, most: int, seen: list[int]):
    """`function`, out of memory with more than so many rows; notes how many it was given."""

    def call(*arguments, **options):
        rows = len(options["input_ids"])
        seen.append(rows)
        if rows > most:
            raise torch.OutOfMemoryError("injected")
        return function(*arguments, **options)

    return call


def test_out_of_memory_halves_the_rows_at_once_and_changes_no_answer(loaded, monkeypatch, caplog):
    model, tokenizer = loaded
    expected = generate(model, tokenizer, PROMPTS, Decoding(5, 6, 1))
    seen: list[int] = []
    monkeypatch.setattr(model, "generate", limited(model.generate, 1, seen))
    assert generate(model, tokenizer, PROMPTS, Decoding(5, 6, 1)) == expected
    assert seen == [5, 2, 1, 1, 1, 1, 1], "what did not fit is not tried again"
    assert "generate: out of memory with 5 rows at once, 2 from here on" in caplog.text


def test_one_row_that_does_not_fit_is_told_with_its_length(loaded, monkeypatch):
    model, tokenizer = loaded
    monkeypatch.setattr(model, "generate", limited(model.generate, 0, []))
    with pytest.raises(OutOfMemory, match=r"^generate: one row of 7 tokens does not fit. Set MAX_SOURCE_LENGTH.$"):
        generate(model, tokenizer, PROMPTS, Decoding(5, 6, 1))


def test_the_longest_rows_come_first_and_each_batch_is_reported(loaded, monkeypatch):
    model, tokenizer = loaded
    reports, widths = [], []
    original = model.generate
    monkeypatch.setattr(model, "generate", lambda **options: widths.append(options["input_ids"].shape[1]) or original(**options))
    generate(model, tokenizer, PROMPTS, Decoding(2, 2, 1, lambda *told: reports.append(told)))
    assert reports == [("generate", 2, 5), ("generate", 4, 5), ("generate", 5, 5)]
    assert widths == [7, 3, 2]


def test_the_tokenizer_pads_as_before_afterwards(loaded):
    model, tokenizer = loaded
    tokenizer.padding_side = "right"
    generate(model, tokenizer, PROMPTS, Decoding(5, 2, 1))
    assert tokenizer.padding_side == "right"


def test_nothing_asked_is_nothing_answered(loaded):
    model, tokenizer = loaded
    assert generate(model, tokenizer, [], Decoding(2, 2, 1)) == measure_losses(model, tokenizer, [], Decoding(2, 2, 1)) == []


def test_beams_find_an_answer_at_least_as_likely_as_the_greedy_one(loaded):
    model, tokenizer = loaded
    model.generation_config.eos_token_id = 399 if model.config.is_encoder_decoder else 383  # answers of one length
    totals = []
    for beams in (1, 8):
        answers = generate_ids(model, tokenizer, PROMPTS, Decoding(5, 3, beams))
        totals.append(confidences(model, tokenizer, PROMPTS, answers, Decoding(5, 3, beams)))
    assert all(wide >= greedy - 1e-6 for greedy, wide in zip(*totals, strict=True))


def test_texts_of_answers_have_no_white_space_around_and_no_special_tokens(tokenizer):
    ids = tokenizer(" 3 May ", add_special_tokens=False).input_ids
    assert decode([[*ids, 1], [1], [0, *ids]], tokenizer) == ["3 May", "", "3 May"]


def test_the_models_special_tokens_are_kept_and_the_tokenizers_end_marker_stands_in(loaded):
    model, tokenizer = loaded
    own = model.generation_config
    own.eos_token_id, own.forced_bos_token_id, own.num_beams, own.repetition_penalty = [7, 8], 5, 4, 2.0
    config = generation_config(model, tokenizer, Decoding(2, 3, 1))
    assert (config.eos_token_id, config.forced_bos_token_id, config.pad_token_id) == ([7, 8], 5, tokenizer.pad_token_id)
    assert (config.num_beams, config.do_sample, config.max_new_tokens) == (1, False, 3)
    assert config.repetition_penalty in (None, 1.0)
    own.eos_token_id = None
    assert generation_config(model, tokenizer, Decoding(2, 3, 1)).eos_token_id == tokenizer.eos_token_id
