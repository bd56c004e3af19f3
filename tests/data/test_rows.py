"""Table -> examples."""

from dataclasses import replace

import pytest
from datasets import Dataset

from job.data.chat_rows import chats_of
from job.data.column_mapping import ColumnMapping
from job.data.read import Source, Table
from job.data.rows import to_examples
from job.errors import DataError

COLUMNS = ColumnMapping("question", "answer", "messages", "{instruction}: {input} ({{year {year}}})")


def table(rows: list[dict]) -> Table:
    return Table(Source("TRAIN_DATA", "a.csv"), Dataset.from_list(rows), range(2, len(rows) + 2))


def test_a_template_takes_any_column_braces_and_the_input_under_its_own_name(tmp_path):
    rows = [{"instruction": "Translate", "question": "a {b}", "answer": "c", "year": 2020}]
    assert to_examples(table(rows), COLUMNS, tmp_path / "a.arrow").to_list() == [
        {"input": "a {b}", "prompt": "Translate: a {b} ({year 2020})", "ground_truth": "c", "row": "row 2"}
    ]


def test_each_row_can_have_its_own_instruction(tmp_path):
    rows = [
        {"instruction": "Translate", "question": "x", "answer": "y", "year": 1},
        {"instruction": "Summarise", "question": "x", "answer": "z", "year": 2},
    ]
    assert to_examples(table(rows), COLUMNS, tmp_path / "a.arrow")["prompt"][:] == [
        "Translate: x ({year 1})",
        "Summarise: x ({year 2})",
    ]


def test_preprocess_rewrites_rows(tmp_path):
    (tmp_path / "own.py").write_text(
        "def up(row):\n    return {'input': row['question'].upper(), 'output_ground_truth': row['answer']}\n"
    )
    columns = ColumnMapping("input", "output_ground_truth", "messages", "Input: {input}", f"{tmp_path}/own.py:up")
    assert to_examples(table([{"question": "ab", "answer": "c"}]), columns, tmp_path / "a.arrow")["prompt"][:] == ["Input: AB"]


def test_preprocess_may_make_chats_of_any_form(tmp_path):
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]}
    (tmp_path / "own.py").write_text(
        "def chat(row):\n"
        f"    answer = {call} if row['answer'] == 'call' else {{'role': 'assistant', 'content': row['answer']}}\n"
        "    question = [{'type': 'text', 'text': 'x'}] if row['answer'] == 'call' else 'x'\n"
        "    return {'messages': [{'role': 'user', 'content': question}, answer]}\n"
    )
    columns = replace(COLUMNS, preprocess=f"{tmp_path}/own.py:chat")
    chats = list(chats_of(to_examples(table([{"answer": "b"}, {"answer": "call"}]), columns, tmp_path / "a.arrow")))
    assert [chat.messages[-1] for chat in chats] == [{"role": "assistant", "content": "b"}, call]


def test_sharegpts_column_is_named_as_one_of_chats(tmp_path):
    rows = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]
    with pytest.raises(DataError, match=r'found "conversations"\. .*, or MESSAGES_COLUMN=conversations for chats\.$'):
        to_examples(table(rows), COLUMNS, tmp_path / "a.arrow")
    found = to_examples(table(rows), replace(COLUMNS, messages="conversations"), tmp_path / "b.arrow")
    assert next(chats_of(found)).messages == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
