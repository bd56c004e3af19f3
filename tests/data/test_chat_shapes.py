"""Chats are found where they are not written as a column of messages."""

from job.data.chat_shapes import find_chats
from job.data.column_mapping import AUTO
from job.data.fields import parsed
from job.tables.read import in_memory
from job.tables.table import Source, Table

ASKED, ANSWERED = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def table(*rows: dict) -> Table:
    made, kept_as_json = in_memory({name: [row.get(name) for row in rows] for name in rows[0]})
    return Table(Source("TRAIN_DATA", "a.jsonl"), made, range(1, len(rows) + 1), kept_as_json=kept_as_json)


def chats(found: Table, column: str = AUTO) -> list:
    chats = find_chats(found, column)
    return list(map(parsed, chats.table.cells(chats.column)))


def shown(chat: list[dict]) -> str:
    """A chat as "user: a, assistant*: b", where * is an answer that is not trained on."""
    return ", ".join(f"{turn['role']}{'*' * (turn.get('weight') == 0)}: {turn['content']}" for turn in chat)


def test_prompt_and_completion_as_messages_are_one_chat():
    assert chats(table({"prompt": [ASKED], "completion": [ANSWERED]})) == [[ASKED, ANSWERED]]
    assert chats(table({"prompt": [ASKED], "completion": "b"})) == [[ASKED, ANSWERED]]
    assert chats(table({"prompt": [ASKED]})) == [[ASKED]]


def test_prompt_and_completion_as_texts_are_no_chat():
    assert find_chats(table({"prompt": "a", "completion": "b"}), AUTO) is None


TREE = [
    {"message_id": "1", "parent_id": None, "role": "prompter", "text": "Q"},
    {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "A"},
    {"message_id": "3", "parent_id": "1", "role": "assistant", "text": "B"},
    {"message_id": "4", "parent_id": "2", "role": "prompter", "text": "Q2"},
    {"message_id": "5", "parent_id": "4", "role": "assistant", "text": "C"},
    {"message_id": "6", "parent_id": "4", "role": "assistant", "text": "D"},
    {"message_id": "7", "parent_id": "6", "role": "prompter", "text": "thanks"},
]
PATHS = ["user: Q, assistant: B", "user: Q, assistant: A, user: Q2, assistant: C", "user: Q, assistant*: A, user: Q2, assistant: D"]


def test_each_path_through_a_tree_to_its_last_answer_is_a_chat_and_no_answer_is_trained_on_twice():
    found = find_chats(table(*TREE), AUTO)
    assert (found.form, found.column) == ("tree of replies", "messages")
    assert list(map(shown, chats(table(*TREE)))) == PATHS
    assert list(found.table.numbers) == [3, 5, 6]


def test_deleted_messages_are_no_part_of_a_tree():
    rows = [row | {"deleted": "true" if row["text"] == "A" else "false"} for row in TREE]
    assert shown(chats(table(*rows))[0]) == PATHS[0]
    assert not any("A" in shown(chat) for chat in chats(table(*rows)))


def test_a_tree_in_one_row_is_read_the_same():
    nodes = {
        row["message_id"]: {"message_id": row["message_id"], "role": row["role"], "text": row["text"], "replies": []}
        for row in TREE
    }
    for row in TREE[1:]:
        nodes[row["parent_id"]]["replies"].append(nodes[row["message_id"]])
    found = chats(table({"message_tree_id": "1", "prompt": nodes["1"]}, {"message_tree_id": "2", "prompt": nodes["1"]}))
    assert sorted(shown(chat) for chat in found[:3]) == sorted(PATHS)
    assert found[3:] == found[:3], "names that another tree has as well"


def test_a_system_text_beside_a_chat_is_its_first_message():
    system = {"role": "system", "content": "be brief"}
    assert chats(table({"messages": [ASKED, ANSWERED], "system": "be brief"})) == [[system, ASKED, ANSWERED]]
    assert chats(table({"messages": [system, ASKED], "system": "be long"})) == [[system, ASKED]]
    assert chats(table({"messages": [ASKED], "system": None})) == [[ASKED]]


def test_a_column_that_is_not_there_has_no_chats():
    assert find_chats(table({"input": "a"}), AUTO) is None
    assert find_chats(table({"conversations": [{"from": "human", "value": "a"}]}), "messages") is None
    assert find_chats(table({"messages": [ASKED]}), "other") is None
