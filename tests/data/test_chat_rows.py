"""Table -> chats."""

from datasets import Dataset

from job.data.chat_rows import chat_examples
from job.data.read import Source, Table


def table(rows: list[dict]) -> Table:
    return Table(Source("TRAIN_DATA", "a.jsonl"), Dataset.from_list(rows))


def test_a_chat_is_compared_by_its_last_answer(tmp_path):
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    longer = [*chat, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    examples = chat_examples(table([{"messages": chat}, {"messages": longer}]), "messages", tmp_path / "a.arrow")
    assert (examples["input"][:], examples["ground_truth"][:]) == (["a", "c"], ["b", "d"])
