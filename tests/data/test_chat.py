"""Token ids and labels of chats in templates of real families."""

import itertools

import pytest
from datasets import Dataset
from transformers import ByT5Tokenizer, GenerationConfig

from job.data.chat import encode_examples, encode_open_chats, end_of_turn, ends_of_turns
from job.data.chat_template import Chat
from job.data.special_tokens import special_tokens_in_answers
from job.errors import DataError
from job.evaluation.generate import decode
from tests.data import chat_templates as families
from tests.data.chat_templates import make_tokenizer

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "x", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "20 C", "tool_call_id": "abcdefghi"}
ENDS = [
    ("<|im_end|>", ("CHATML", "MARKED_CHATML", "PARTS", "QWEN2_5", "QWEN3", "QWQ")), ("</s>", ("DEEPSEEK_R1", "MISTRAL")),
    ("<|eot_id|>", ("LLAMA3_1",)), ("<end_of_turn>", ("GEMMA2", "GEMMA3")), ("<|end|>", ("PHI3",)), ("<|return|>", ("GPT_OSS",)),
    (None, ("PLAIN",)),
]  # fmt: skip
END_OF = {family: end for end, families in ENDS for family in families}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def answer(text: str, **more: object) -> dict:
    return {"role": "assistant", "content": text} | more


TURNS = Chat([user("is it red?"), answer("no."), user("is it green?"), answer("yes.")])


def trained_on(ids: list[int], labels: list[int], tokenizer) -> list[str]:
    """The texts of the parts that are in the loss, in which the labels are the ids."""
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    parts = itertools.groupby(labels, key=lambda label: label != -100)
    return [tokenizer.decode(list(part)) for kept, part in parts if kept]


def rows_of(chat: Chat, tokenizer, every_answer: bool = True) -> list[dict]:
    columns = encode_examples({"messages": [chat.dump()], "row": ["row 1"]}, tokenizer, every_answer)
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def encoded(chat: Chat, tokenizer) -> tuple[list[int], list[int]]:
    """Token ids and labels of the one row that a chat makes."""
    (row,) = rows_of(chat, tokenizer)
    return row["source_ids"], row["target_ids"]


@pytest.mark.parametrize("family", END_OF)
def test_the_end_of_a_turn_is_the_token_that_the_template_writes_after_an_answer(family):
    tokenizer = make_tokenizer(getattr(families, family))
    end = end_of_turn(tokenizer)
    assert (None if end is None else tokenizer.convert_ids_to_tokens(end)) == END_OF[family]
    tokenizer.chat_template = None
    assert end_of_turn(tokenizer) is None


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("CHATML", ["<|im_end|>"]), ("QWEN3", ["<|im_end|>"]), ("MISTRAL", ["</s>"]), ("LLAMA3_1", ["<|eot_id|>"]),
        ("DEEPSEEK_R1", ["</s>"]), ("GPT_OSS", ["<|return|>", "<|call|>"]), ("PLAIN", []),
    ],
)  # fmt: skip
def test_a_tool_call_may_end_with_a_token_of_its_own(family, ends):
    tokenizer = make_tokenizer(getattr(families, family))
    assert tokenizer.convert_ids_to_tokens(ends_of_turns(tokenizer)) == ends
    tokenizer.chat_template = None
    assert ends_of_turns(tokenizer) == []


@pytest.mark.parametrize("family", ["CHATML", "MARKED_CHATML", "QWEN2_5", "DEEPSEEK_R1", "LLAMA3_1", "MISTRAL", "GEMMA3", "PHI3"])
def test_only_the_assistants_turns_up_to_their_ends_are_in_the_loss(family):
    tokenizer = make_tokenizer(getattr(families, family))
    ids, labels = encoded(TURNS, tokenizer)
    assert ids == tokenizer.apply_chat_template(TURNS.messages, return_dict=False)
    assert [text.lstrip() for text in trained_on(ids, labels, tokenizer)] == [f"no.{END_OF[family]}", f"yes.{END_OF[family]}"]


@pytest.mark.parametrize("family", ["CHATML", "QWEN3", "LLAMA3_1", "MISTRAL", "GEMMA2", "PHI3", "GPT_OSS", "PLAIN", "PARTS"])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_each_answer_is_trained_on_after_the_very_tokens_that_predict_asks_with(family, tools):
    tokenizer = make_tokenizer(getattr(families, family))
    system = {"role": "system", "content": "be brief"}
    row = rows_of(Chat([system, *TURNS.messages], tools), tokenizer)[-1]
    asked = encode_open_chats([Chat([system, *TURNS.messages[:-1]], tools)], tokenizer)[0]
    end = max(place for place, label in enumerate(row["target_ids"]) if label != -100)
    start = max(place for place in range(end) if row["target_ids"][place] == -100) + 1
    assert row["source_ids"][:start] == asked


@pytest.mark.parametrize(
    ("family", "written"),
    [
        ("QWEN2_5", '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'),
        ("QWEN3", '<think>\n\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'),
        ("LLAMA3_1", '{"name": "weather", "parameters": {"city": "Paris"}}'),
        ("MISTRAL", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}]'),
        ("DEEPSEEK_R1", '<\uff5ccall\uff5c>weather\n{"city": "Paris"}<\uff5c/call\uff5c>'),  # it wants arguments as text
    ],
)
def test_an_answer_that_is_a_tool_call_is_right_if_it_is_as_the_template_writes_it(family, written):
    tokenizer = make_tokenizer(getattr(families, family))
    row = rows_of(Chat([user("weather?"), CALLED], TOOLS), tokenizer)[0]
    assert row["ground_truth"] == written
    assert trained_on(row["source_ids"], row["target_ids"], tokenizer) == [row["ground_truth"] + END_OF[family]]


@pytest.mark.parametrize("family", [family for family, end in END_OF.items() if end and family != "QWQ"])
@pytest.mark.parametrize("turns", [TURNS.messages, [user("weather?"), CALLED], [user("a?"), answer("ä {x} <b>\n\n- c ")]])
def test_the_right_answer_is_what_decoding_makes_of_the_tokens_that_are_trained_on(family, turns):
    tokenizer = make_tokenizer(getattr(families, family))
    try:
        row = rows_of(Chat(turns), tokenizer)[-1]
    except DataError:
        assert "tool_calls" in turns[-1]  # of which not every family knows
        return
    labels = Dataset.from_dict({"labels": [row["target_ids"]]})
    kept = special_tokens_in_answers(labels, tokenizer, GenerationConfig(eos_token_id=ends_of_turns(tokenizer)))
    last = [list(part) for labelled, part in itertools.groupby(row["target_ids"], lambda label: label != -100) if labelled][-1]
    assert decode([last], tokenizer, kept) == [row["ground_truth"]]


def test_a_call_that_ends_with_a_token_of_its_own_is_trained_on_up_to_that():
    tokenizer = make_tokenizer(families.LLAMA3_1)
    search = {"type": "function", "function": {"name": "brave_search", "arguments": {"query": "red"}}}
    row = rows_of(Chat([user("red?"), {"role": "assistant", "tool_calls": [search]}]), tokenizer)[0]
    assert trained_on(row["source_ids"], row["target_ids"], tokenizer) == ['<|python_tag|>brave_search.call(query="red")<|eom_id|>']
    assert row["ground_truth"] == '<|python_tag|>brave_search.call(query="red")'


def test_results_of_tools_are_read_and_not_trained_on():
    tokenizer = make_tokenizer(families.LLAMA3_1)
    ids, labels = encoded(Chat([user("weather?"), CALLED, RESULT, answer("it is 20")], TOOLS), tokenizer)
    assert '<|start_header_id|>ipython<|end_header_id|>\n\n"20 C"<|eot_id|>' in tokenizer.decode(ids)
    assert [part.rpartition("<")[0] for part in trained_on(ids, labels, tokenizer)] == [
        '{"name": "weather", "parameters": {"city": "Paris"}}',
        "it is 20",
    ]


def test_a_template_that_strips_earlier_thoughts_makes_a_row_of_each_answer():
    tokenizer = make_tokenizer(families.QWEN3)
    chat = Chat([user("a?"), answer("no", reasoning_content="hm"), user("b?"), answer("yes", reasoning_content="oh")])
    rows = rows_of(chat, tokenizer)
    for row, messages in zip(rows, (chat.messages[:2], chat.messages), strict=True):
        assert row["source_ids"] == tokenizer.apply_chat_template(messages, return_dict=False)
    assert [trained_on(row["source_ids"], row["target_ids"], tokenizer) for row in rows] == [
        ["<think>\nhm\n</think>\n\nno<|im_end|>"],
        ["<think>\noh\n</think>\n\nyes<|im_end|>"],
    ]
    assert [(row["input"], row["ground_truth"]) for row in rows] == [
        ("a?", "<think>\nhm\n</think>\n\nno"),
        ("b?", "<think>\noh\n</think>\n\nyes"),
    ]
    assert rows_of(chat, tokenizer, every_answer=False) == rows[1:]


def test_an_answer_of_weight_zero_is_read_and_not_trained_on():
    tokenizer = make_tokenizer(families.CHATML)
    chat = Chat([user("a?"), answer("no.", weight=0), user("b?"), answer("yes.", weight=1)])
    ids, labels = encoded(chat, tokenizer)
    assert ids == encoded(Chat([user("a?"), answer("no."), user("b?"), answer("yes.")]), tokenizer)[0]
    assert trained_on(ids, labels, tokenizer) == ["yes.<|im_end|>"]


def test_an_answer_ends_with_the_tokenizers_end_where_the_template_writes_none():
    tokenizer = make_tokenizer(families.PLAIN)
    ids, labels = encoded(Chat([user("is it red?"), answer("yes.")]), tokenizer)
    assert tokenizer.decode(ids) == "user: is it red?\nassistant: yes.</s>"
    assert trained_on(ids, labels, tokenizer) == ["yes.</s>"]


def test_a_token_that_would_reach_over_the_border_of_an_answer_is_split_there():
    tokenizer = make_tokenizer(families.PLAIN)
    whole = tokenizer("assistant: yes", add_special_tokens=False).input_ids
    assert tokenizer.decode(whole[-1:]) == " yes"
    ids, labels = encoded(Chat([user("x"), answer("yes")]), tokenizer)
    assert trained_on(ids, labels, tokenizer) == ["yes</s>"]
    assert ids[: labels.count(-100)] == tokenizer("user: x\nassistant: ", add_special_tokens=False).input_ids


def test_a_tokenizer_without_offsets_does_as_well():
    tokenizer = ByT5Tokenizer(additional_special_tokens=["<|im_end|>"], extra_ids=0)
    assert not tokenizer.is_fast
    tokenizer.chat_template = families.CHATML
    rows = rows_of(TURNS, tokenizer)
    assert rows[1]["source_ids"] == tokenizer.apply_chat_template(TURNS.messages, return_dict=False)
    parts = [trained_on(row["source_ids"], row["target_ids"], tokenizer) for row in rows]
    assert parts == [["no.<|im_end|>"], ["yes.<|im_end|>"]]


def test_what_a_template_marks_as_generated_is_trained_on_without_what_it_is_asked_with():
    marked = "{% generation %}<|im_start|>assistant\n{{ m.content }}<|im_end|>\n{% endgeneration %}"  # as SmolLM3's
    turns = "{% for m in messages %}{% if m.role == 'assistant' %}" + marked + "{% else %}"
    tokenizer = make_tokenizer(
        families.CHATML.replace("{% for m in messages %}", turns).replace("{% endfor %}", "{% endif %}{% endfor %}")
    )
    ids, labels = encoded(TURNS, tokenizer)
    assert trained_on(ids, labels, tokenizer) == ["no.<|im_end|>", "yes.<|im_end|>"]


def test_what_a_template_does_not_mark_as_generated_is_not_trained_on():
    thought = families.QWQ.replace("<think>\n{% endif %}", "{% endif %}").replace(
        "{{ m.content }}",
        "{% if m.role == 'user' %}{{ m.content }}{% else %}hm {% generation %}{{ m.content }}{% endgeneration %}{% endif %}",
    )
    tokenizer = make_tokenizer(thought)
    ids, labels = encoded(Chat([user("a?"), answer("yes.")]), tokenizer)
    assert tokenizer.decode(ids).endswith("assistant\nhm yes.<|im_end|>\n")
    assert trained_on(ids, labels, tokenizer) == ["yes.<|im_end|>"]


def test_an_answer_that_begins_otherwise_than_the_template_asks_for_is_refused():
    tokenizer = make_tokenizer(families.QWQ)
    with pytest.raises(DataError, match=r"row 3: message 2: .* an answer after '<think>\\n', and writes this one without"):
        encoded(Chat([user("a?"), answer("yes.")], where="row 3"), tokenizer)
    thought = Chat([user("a?"), answer("<think>\nhm\n</think>\n\nyes.")])
    ids, labels = encoded(thought, tokenizer)
    assert trained_on(ids, labels, tokenizer) == ["hm\n</think>\n\nyes.<|im_end|>"]
    tokenizer.chat_template = families.QWQ.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    with pytest.raises(DataError, match=r"writes this one without\. Use INPUT_COLUMN and TARGET_COLUMN\.$"):
        encoded(thought, tokenizer)
