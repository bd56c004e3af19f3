"""Table -> chats."""

import json

import pytest
from datasets import Dataset, load_dataset

from job.data.chat_rows import chat_examples, chats_of, open_chats, opening_of, question_of, shared_opening
from job.data.chat_template import Chat
from job.errors import DataError
from job.tables.read import read_table
from job.tables.table import Source, Table
from tests.data.test_chat import CALL, CALLED, RESULT, TOOLS, answer, user

SYSTEM = {"role": "system", "content": "be brief"}


def table(rows: list[dict]) -> Table:
    return Table(Source("TRAIN_DATA", "a.jsonl"), Dataset.from_list(rows))


@pytest.fixture
def read(write_rows, tmp_path):
    """The chats of rows that are written as JSON lines and read again."""

    def chats(rows: list[dict], column: str = "messages") -> list[Chat]:
        found = read_table(Source("TRAIN_DATA", str(write_rows(rows, "a.jsonl"))))
        return list(chats_of(chat_examples(found, column, tmp_path / "a.arrow")))

    return chats


def test_messages_of_any_form_are_read_as_they_were_written(read):
    chats = [
        [SYSTEM, user("a"), answer("b", weight=1)],
        [user("weather?"), CALLED, RESULT, answer("it is 20", reasoning_content="hm")],
        [
            user("more?"),
            {
                "role": "assistant",
                "tool_calls": [CALL | {"function": {"name": "f", "arguments": {"days": 3, "city": None, "at": [1, 2.5]}}}],
            },
        ],
        [{"role": "user", "content": [{"type": "text", "text": "c"}]}, answer("d")],
    ]
    tools = [None, TOOLS, [], None]
    found = read([{"messages": chat, "tools": own} for chat, own in zip(chats, tools, strict=True)])
    assert [chat.messages for chat in found] == chats
    assert json.dumps(found[2].messages) == json.dumps(chats[2])  # 3 is no 3.0, and the keys are in their order
    assert [chat.tools for chat in found] == [None, TOOLS, None, None]
    assert found[2].where.endswith('a.jsonl: row 3, column "messages"')


def test_a_null_that_arrow_puts_where_other_rows_have_a_key_is_no_key(tmp_path):
    rows = [
        {"messages": [user("a"), {"role": "assistant", "content": None, "tool_calls": [CALL], "name": None}]},
        {"messages": [user("a"), {"role": "assistant", "content": "b", "tool_calls": None, "name": "Ada"}]},
    ]
    found = list(chats_of(chat_examples(table(rows), "messages", tmp_path / "a.arrow")))
    assert [chat.messages[1] for chat in found] == [{"role": "assistant", "tool_calls": [CALL]}, answer("b", name="Ada")]


def test_a_column_that_datasets_keeps_as_json_is_read_as_well(write_rows, tmp_path):
    chats = [[user("a"), answer("b")], [{"role": "user", "content": [{"type": "text", "text": "c"}]}, CALLED]]
    path = str(write_rows([{"messages": chat} for chat in chats], "a.jsonl"))
    rows = load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    assert "Json" in str(rows.features)
    found = chat_examples(Table(Source("TRAIN_DATA", "hub/id"), rows), "messages", tmp_path / "a.arrow")
    assert [chat.messages for chat in chats_of(found)] == chats


def test_the_ways_of_openai_and_sharegpt_to_write_the_same_are_the_same(read):
    wanted = [SYSTEM, user("weather?"), CALLED | {"tool_calls": [CALL]}, {"role": "tool", "content": "20"}, answer("it is 20")]
    as_text = [
        *wanted[:2],
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL | {"function": CALL["function"] | {"arguments": '{"city": "Paris"}'}}],
        },
        *wanted[3:],
    ]
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    sharegpt = [{"from": names[turn["role"]], "value": turn["content"]} for turn in [*wanted[:2], wanted[4]]]
    rows = [
        as_text,
        sharegpt,
        json.dumps(wanted),
        {"messages": wanted, "tools": json.dumps(TOOLS)},
        [wanted[0] | {"tools": TOOLS}, *wanted[1:]],
    ]
    found = read([{"talk": chat} for chat in rows], "talk")
    assert [chat.messages for chat in found] == [wanted, [*wanted[:2], wanted[4]], wanted, wanted, rows[4]]
    assert [chat.tools for chat in found] == [None, None, None, TOOLS, TOOLS]


def test_a_function_call_of_openais_old_form_is_a_tool_call(read):
    old = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    (chat,) = read([{"messages": [user("weather?"), old]}])
    assert chat.messages[1] == {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL["function"]}]}


def test_a_chat_ends_with_its_last_answer_that_is_trained_on(read):
    (chat,) = read([{"messages": [user("a"), answer("b"), user("c"), answer("d", weight=0)]}])
    assert chat.messages == [user("a"), answer("b")]


@pytest.mark.parametrize(
    ("chat", "wanted"),
    [
        ("hello", "a list of"),
        ("[" * 100_000, "a list of"),
        ([], "a list of"),
        ([user("a"), {"role": "boss", "content": "x"}], "message 2 has no role out of system, developer, user, assistant, tool"),
        ([{"from": "bot", "value": "x"}], "message 1 has no role"),
        ([{"role": "user"}], "message 1 has no text as its content"),
        ([{"role": "user", "content": []}], "message 1 has a content whose parts"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "message 1 has a content whose parts"),
        ([{"role": "user", "content": [{"type": "image", "text": "x"}]}], 'message 1 has a part of type "image", and only text'),
        ([user("a") | {"images": ["x.png"]}, answer("b")], 'message 1 has "images", and only text'),
        ([user("a"), answer("b", weight=0.5)], 'message 2: "weight" is 0.5, and 0 or 1'),
        ([user("a"), answer("b", weight=0)], 'has a "weight" other than 0'),
        ([answer("b")], "no answer of the assistant follows a message"),
        ([user("a"), CALLED | {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "message 2 has a tool call"),
        ([user("a"), {"role": "assistant", "tool_calls": ["f"]}], "message 2 has a tool call"),
        ([user("a"), answer(" ")], "the last message must be the assistant's answer"),
        ([user("a")], "the last message must be the assistant's answer"),
        ({"messages": [user("a"), answer("b")], "tools": "no JSON"}, '"tools" is not a list of objects'),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_refused_with_its_row_and_message(read, chat, wanted):
    with pytest.raises(DataError) as raised:
        read([{"messages": [user("a"), answer("b")]}, {"messages": chat}])
    assert wanted in str(raised.value)
    assert 'a.jsonl: row 2, column "messages"' in str(raised.value)


def test_chats_for_predict_wait_for_an_answer():
    rows = [{"messages": [user("a")], "tools": TOOLS}, {"messages": [user("a"), answer("b"), user("c")], "tools": None}]
    assert [(len(chat.messages), chat.tools) for chat in open_chats(table(rows), "messages")] == [(1, TOOLS), (3, None)]


def test_two_chats_ask_the_same_if_all_but_the_last_answer_and_the_tools_are_the_same():
    one, other = Chat([user("a"), answer("b")]), Chat([user("a"), answer("c")], where="row 9")
    assert question_of(one.dump()) == question_of(other.dump()) == json.dumps([{"content": "a", "role": "user"}])
    assert question_of(one.dump()) != question_of(Chat(one.messages, TOOLS).dump())


def test_what_all_chats_begin_with_is_their_opening():
    one, other = Chat([SYSTEM, user("a"), answer("b")], TOOLS), Chat([SYSTEM, user("c"), answer("d")], TOOLS)
    assert shared_opening([one, other]) == opening_of(other) == Chat([SYSTEM], TOOLS)
    assert shared_opening([one, other, Chat(one.messages)]) is None
    assert shared_opening([Chat([user("a"), answer("b")])] * 2) is None
