"""Chats in templates of real families."""

import pytest
from transformers import AutoTokenizer

from job.data.chat import encode_chat, end_of_turn
from job.errors import DataError


def test_only_the_assistants_turns_of_a_chat_are_in_the_loss(llama_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    chat = [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"}, {"role": "assistant", "content": "four"},
    ]  # fmt: skip
    ids, labels = encode_chat(chat, tokenizer)
    assert ids == tokenizer.apply_chat_template(chat, return_dict=False)
    runs, current = [], []
    for label in [*labels, -100]:
        if label != -100:
            current.append(label)
        elif current:
            runs.append(tokenizer.decode(current).strip())
            current = []
    assert runs == ["two</s>", "four</s>"]


def test_a_template_that_rewrites_earlier_turns_is_refused(llama_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
    with pytest.raises(DataError, match="rewrites earlier turns"):
        encode_chat(chat, tokenizer)


def test_the_end_of_a_turn_is_the_token_that_the_template_writes_after_an_answer(llama_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert end_of_turn(tokenizer) is None
    tokenizer.chat_template = None
    assert end_of_turn(tokenizer) is None
