"""Special tokens in right answers, found in the labels."""

import pytest
from datasets import Dataset
from tokenizers import AddedToken
from transformers import AutoTokenizer, GenerationConfig

from job.data.special_tokens import special_token_ids, special_tokens_in_answers
from tests.conftest import DEMO_BASE


@pytest.fixture
def sentinels():
    tokenizer = AutoTokenizer.from_pretrained(DEMO_BASE)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<extra_id_0>", "<extra_id_1>"]})
    return tokenizer


def found(tokenizer, labels: list[list[int]], **answering: object) -> list[str]:
    rows = Dataset.from_dict({"labels": labels})
    tokens = special_tokens_in_answers(rows, tokenizer, GenerationConfig(pad_token_id=0, eos_token_id=[1], **answering))
    return tokenizer.convert_ids_to_tokens(list(tokens))


def test_those_that_answers_are_made_of_are_found_and_those_around_them_are_not(sentinels):
    first, second = sentinels.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
    assert found(sentinels, [[first, 5, 1], [-100, 6, 0, 1]]) == ["<extra_id_0>"]
    assert found(sentinels, [[first, 5, 1], [6, second, 1]]) == ["<extra_id_0>", "<extra_id_1>"]
    assert found(sentinels, [[5, 1], [2, 0, 1]]) == []


def test_a_token_that_ends_or_begins_every_answer_is_not_of_its_text(sentinels):
    first, second = sentinels.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
    assert found(sentinels, [[second, 5, first, 1]], forced_bos_token_id=second, decoder_start_token_id=first) == []


def test_a_token_that_only_the_tokenizers_file_marks_is_special_too(sentinels):
    sentinels.add_tokens([AddedToken("<|im_end|>", special=True)])
    token = sentinels.convert_tokens_to_ids("<|im_end|>")
    assert token not in sentinels.all_special_ids
    assert token in special_token_ids(sentinels)
    assert sentinels.decode([token], skip_special_tokens=True) == ""
    assert found(sentinels, [[5, token, 1]]) == ["<|im_end|>"]
