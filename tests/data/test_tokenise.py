"""Token ids and labels, checked against ids put together by hand."""

import itertools

import pytest
from datasets import Dataset

from job.data import tokenise as module
from job.data.tokenise import Encoding, encode_prompts

EOS = 1


@pytest.fixture
def made(tmp_path):
    """The functions under test, each call with a file of its own."""
    files = (tmp_path / f"{number}.arrow" for number in itertools.count())

    class Made:
        def tokenise(self, *arguments):
            return module.tokenise(*arguments, next(files))

        def assemble(self, *arguments):
            return module.assemble(*arguments, next(files))

    return Made()


def ids_of(tokenizer, text: str) -> list[int]:
    """The ids of `text` by the Rust tokenizer itself, without an end marker."""
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def examples(prompt: str, truth: str) -> Dataset:
    return Dataset.from_dict({"input": ["x"], "prompt": [prompt], "ground_truth": [truth]})


def test_an_encoder_decoder_gets_both_sides_with_their_end_markers(tokenizer, made):
    row = made.tokenise(examples("Input: 3 May", "05-03"), Encoding(tokenizer, True), 1)[0]
    assert row["source_ids"] == [*ids_of(tokenizer, "Input: 3 May"), EOS]
    assert row["target_ids"] == [*ids_of(tokenizer, "05-03"), EOS]


def test_prompt_tokens_are_not_in_the_loss(tokenizer, made):
    tokenised = made.tokenise(examples("Input: 3 May", "05-03"), Encoding(tokenizer, False), 1)
    row = made.assemble(tokenised, (99, 99), EOS, "causal")[0]
    prompt, answer = ids_of(tokenizer, "Input: 3 May\n"), [*ids_of(tokenizer, "05-03"), EOS]
    assert row["input_ids"] == prompt + answer
    assert row["labels"] == [-100] * len(prompt) + answer


def test_the_prompt_of_predict_is_the_prompt_of_training(tokenizer, made):
    for seq2seq in (True, False):
        assert (
            encode_prompts(["Input: 3 May"], tokenizer, seq2seq)[0]
            == made.tokenise(examples("Input: 3 May", "x"), Encoding(tokenizer, seq2seq), 1)[0]["source_ids"]
        )


def test_a_cut_input_keeps_its_end_marker_and_a_cut_answer_loses_it(tokenizer, made):
    tokenised = made.tokenise(examples("Input: 3 May 2020", "2020-05-03"), Encoding(tokenizer, True), 1)
    row = made.assemble(tokenised, (4, 3), EOS, "seq2seq")[0]
    assert row["input_ids"] == [*ids_of(tokenizer, "Input: 3 May 2020")[:3], EOS]
    assert row["labels"] == ids_of(tokenizer, "2020-05-03")[:3]


def test_nothing_is_padded(tokenizer, made):
    rows = Dataset.from_dict({"input": ["x", "y"], "prompt": ["a", "a b c d e"], "ground_truth": ["b", "b c d e f"]})
    tokenised = made.assemble(made.tokenise(rows, Encoding(tokenizer, True), 1), (99, 99), EOS, "seq2seq")
    assert not any(tokenizer.pad_token_id in ids for row in tokenised for ids in (row["input_ids"], row["labels"]))
