"""What templates of real families make of chats: compared with the library's own rendering, or written out."""

import json

import pytest

from job.data.chat_template import Chat, render, template_traits
from job.errors import DataError
from tests.data import chat_templates as families
from tests.data.chat_templates import make_tokenizer
from tests.data.test_chat import CALL, CALLED, RESULT, TOOLS, answer, user

SYSTEM = {"role": "system", "content": "be brief"}


@pytest.mark.parametrize("family", ["QWEN2_5", "QWEN3", "LLAMA3_1", "MISTRAL"])
def test_tools_calls_and_results_are_rendered_as_the_library_does(family):
    tokenizer = make_tokenizer(getattr(families, family))
    chat = Chat([user("weather?"), CALLED, RESULT, answer("it is 20")], TOOLS)
    assert render(chat, tokenizer) == tokenizer.apply_chat_template(chat.messages, tools=TOOLS, tokenize=False)
    assert "Paris" in render(chat, tokenizer)


def test_a_template_that_joins_arguments_to_text_gets_them_as_text():
    chat = Chat([user("weather?"), CALLED])
    assert 'weather\n{"city": "Paris"}' in render(chat, make_tokenizer(families.DEEPSEEK_R1))


def test_a_template_that_would_print_arguments_as_python_gets_them_as_text():
    tokenizer = make_tokenizer(families.QWEN2_5.replace(" | tojson }}{{ '}", " }}{{ '}"))
    assert '"arguments": {"city": "Paris"}}' in render(Chat([user("weather?"), CALLED]), tokenizer)


def test_a_content_that_a_template_needs_beside_a_call_is_empty():
    tokenizer = make_tokenizer(
        families.QWEN2_5.replace("{% if m.content %}{{ '\n' + m.content }}{% endif %}", "{{ m['content'] + '' }}")
    )
    assert "<tool_call>" in render(Chat([user("weather?"), CALLED]), tokenizer)


@pytest.mark.parametrize("family", ["GEMMA2", "MISTRAL"])
def test_a_system_message_that_the_template_refuses_comes_before_the_text_of_the_user(family):
    tokenizer = make_tokenizer(getattr(families, family))
    folded = [user("be brief\n\nis it red?"), answer("yes"), user("green?"), answer("no")]
    chat = Chat([SYSTEM, user("is it red?"), *folded[1:]])
    assert render(chat, tokenizer) == tokenizer.apply_chat_template(folded, tokenize=False)
    with pytest.raises(DataError, match=r"message 1: .*no user's message follows"):
        render(Chat([SYSTEM]), tokenizer)


def test_a_system_message_that_the_template_takes_is_left_to_it():
    tokenizer = make_tokenizer(families.GEMMA3)
    assert render(Chat([SYSTEM, user("a")]), tokenizer) == tokenizer.apply_chat_template([SYSTEM, user("a")], tokenize=False)


def test_a_developer_is_a_system_unless_the_template_knows_developers():
    chat = Chat([{"role": "developer", "content": "be brief"}, user("a")])
    assert render(chat, make_tokenizer(families.CHATML)).startswith("<|im_start|>system\nbe brief<|im_end|>")
    assert render(chat, make_tokenizer(families.GPT_OSS)).startswith("<|start|>developer<|message|>be brief")


@pytest.mark.parametrize(("family", "shown"), [("CHATML", "one\ntwo"), ("GEMMA3", "onetwo"), ("PARTS", "onetwo")])
def test_parts_of_text_are_joined_where_the_template_does_not_do_it(family, shown):
    content = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert shown in render(Chat([{"role": "user", "content": content}]), make_tokenizer(getattr(families, family)))


def test_a_template_that_takes_parts_alone_gets_text_as_one():
    tokenizer = make_tokenizer(families.PARTS)
    assert (template_traits(tokenizer).text, template_traits(tokenizer).parts) == (False, True)
    assert render(Chat([user("one")]), tokenizer) == "<|im_start|>user\none<|im_end|>\n"


@pytest.mark.parametrize(
    ("family", "chat", "place", "words"),
    [
        ("GEMMA2", [user("a"), user("b"), answer("c")], "message 2", "roles must alternate"),
        ("LLAMA3_1", [user("a"), {"role": "assistant", "tool_calls": [CALL, CALL]}], "message 2", "only supports single"),
        ("MISTRAL", [user("a"), {"role": "assistant", "tool_calls": [CALL | {"id": "1"}]}], "message 2", "with length 9"),
        ("MISTRAL", [user("a"), CALLED, {"role": "tool", "content": "x"}], "message 3", "tool_call_id"),
        ("{{ messages[0].a.b.c }}", [user("a")], "message 1", "has no attribute 'a'"),
        ("{{ messages[0].content + 1 }}", [user("a")], "message 1", "can only concatenate str"),
        ("{% for", [user("a")], "message 1", "Expected"),
    ],
)  # fmt: skip
def test_what_a_template_refuses_is_one_line_with_row_message_and_its_words(family, chat, place, words):
    tokenizer = make_tokenizer(getattr(families, family, family))
    with pytest.raises(DataError) as raised:
        render(Chat(chat, where="TRAIN_DATA=a.jsonl: row 3"), tokenizer)
    said = str(raised.value)
    assert said.startswith(f"TRAIN_DATA=a.jsonl: row 3: {place}: this model's chat template does not take it (")
    assert words.lower() in said.lower()
    assert "\n" not in said


def test_tools_that_a_template_refuses_are_named():
    tokenizer = make_tokenizer("{% for tool in tools or [] %}{{ tool.function.name + '' }}{% endfor %}" + families.CHATML)
    with pytest.raises(DataError, match='row 3: "tools": '):
        render(Chat([user("a")], [{"name": "weather"}], "row 3"), tokenizer)


def test_a_chat_is_the_same_after_it_was_kept_as_text():
    chat = Chat([SYSTEM, user("ä"), CALLED], TOOLS, "row 3")
    assert Chat.parse(chat.dump()) == chat
    assert json.loads(chat.dump())["where"] == "row 3"
