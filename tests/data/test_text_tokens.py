"""Tokens and the places of their texts."""

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from job.data.text_tokens import covered_tokens, split_places, tokens_around, tokens_of
from tests.data.chat_templates import PLAIN, make_tokenizer

TEXT = "user: is it red?\nassistant: yes"
ANSWER = (TEXT.index("yes"), len(TEXT))


def test_each_token_knows_its_text():
    tokenizer = make_tokenizer(PLAIN)
    tokens = tokens_of(TEXT, tokenizer)
    assert [token for token, _, _ in tokens] == tokenizer(TEXT, add_special_tokens=False).input_ids
    assert [TEXT[begin:end] for _, begin, end in tokens] == [tokenizer.decode([token]) for token, _, _ in tokens]


def test_a_span_that_begins_within_a_token_is_where_text_is_split():
    tokenizer = make_tokenizer(PLAIN)
    tokens = tokens_of(TEXT, tokenizer)
    assert TEXT[slice(*tokens[-1][1:])] == " yes"
    assert split_places(tokens, [ANSWER], tokenizer) == [ANSWER[0]]
    assert split_places(tokens, [(0, 4), (ANSWER[0] - 1, len(TEXT))], tokenizer) == []
    split = tokens_around(TEXT, [ANSWER], tokenizer)
    assert tokenizer.decode([token for token, _, _ in split]) == TEXT
    assert "".join(TEXT[begin:end] for _, begin, end in split[covered_tokens(split, ANSWER)]) == "yes"
    asked = tokenizer(TEXT[: ANSWER[0]], add_special_tokens=False).input_ids
    assert [token for token, _, _ in split[: covered_tokens(split, ANSWER).start]] == asked


def test_a_tokenizer_that_does_not_say_where_its_tokens_are_is_asked_for_each_part():
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokens = tokens_of(TEXT, tokenizer)
    assert {token[1:] for token in tokens} == {(0, len(TEXT))}
    split = tokens_around(TEXT, [ANSWER], tokenizer)
    assert [token for token, _, _ in split] == tokenizer(TEXT, add_special_tokens=False).input_ids
    assert tokenizer.decode([token for token, _, _ in split[covered_tokens(split, ANSWER)]]) == "yes"


@pytest.mark.parametrize("kind", ["llama_folder", "plain"])
def test_text_that_follows_other_text_gets_no_space_before_it(kind, request):
    tokenizer = make_tokenizer(PLAIN) if kind == "plain" else AutoTokenizer.from_pretrained(request.getfixturevalue(kind))
    (token, begin, end), *_ = tokens_of("yes", tokenizer, follows=True)
    assert (begin, end) == (0, len(tokenizer.decode([token])))
