"""Chats in templates of real families."""

import pytest
from transformers import AutoTokenizer

from job.data.chat import encode_chat
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
