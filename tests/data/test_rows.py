"""Table -> examples."""

import json
from dataclasses import replace

import pytest
from datasets import Dataset

from job.data.chat_rows import chats_of
from job.data.chat_template import Chat
from job.data.column_mapping import AUTO, ColumnMapping
from job.data.rows import shape_of, to_chats, to_examples, to_prompts
from job.errors import DataError
from job.tables.read import read_table
from job.tables.table import Source, Table

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


ALL_AUTO = ColumnMapping(AUTO, AUTO, AUTO, AUTO)


def from_json(text: str, tmp_path) -> Table:
    (tmp_path / "a.jsonl").write_text(text)
    return read_table(Source("TRAIN_DATA", str(tmp_path / "a.jsonl")))


def test_typed_cells_are_inputs_and_answers_as_they_are_shown(tmp_path):
    found = from_json('{"question": 1.0, "answer": true}\n{"question": "b", "answer": {"n": 2}}\n', tmp_path)
    assert to_examples(found, ALL_AUTO, tmp_path / "a.arrow").to_list() == [
        {"input": "1.0", "prompt": "Input: 1.0", "ground_truth": "true", "row": "row 1"},
        {"input": "b", "prompt": "Input: b", "ground_truth": '{"n": 2}', "row": "row 2"},
    ]


def test_of_several_answers_the_first_is_trained_on_and_said(tmp_path, caplog):
    found = from_json('{"question": "a", "answer": ["x", "y"]}\n{"question": "b", "answer": "[z"}\n', tmp_path)
    assert to_examples(found, ALL_AUTO, tmp_path / "a.arrow")["ground_truth"][:] == ["x", "[z"]
    assert '1 rows have several answers in "answer": the first of each is the right one' in caplog.text


def test_a_nested_field_is_an_input_like_any_other(tmp_path):
    found = from_json('{"translation": {"en": "yes", "de": "ja"}, "a": {"b": ["x", 2]}}\n', tmp_path)
    columns = replace(ALL_AUTO, input="translation.en", target="translation.de", template="{a.b.1}: {input}")
    assert to_examples(found, columns, tmp_path / "a.arrow").to_list() == [
        {"input": "yes", "prompt": "2: yes", "ground_truth": "ja", "row": "row 1"}
    ]


def test_rows_that_are_left_out_are_no_examples_and_the_others_keep_their_names(tmp_path):
    found = from_json('{"question": "a", "answer": "x"}\n{}\n{"question": "c"}\n{"question": "d", "answer": "y"}\n', tmp_path)
    examples = to_examples(found, replace(ALL_AUTO, empty_rows="drop"), tmp_path / "a.arrow")
    assert (examples["row"][:], examples["ground_truth"][:]) == (["row 1", "row 4"], ["x", "y"])


def test_jinja_sees_lists_as_lists_and_evaluation_shows_the_prompt(tmp_path):
    found = from_json('{"words": ["a", "b"], "n": 1, "label": "x"}\n{"words": [], "n": 2, "label": "y"}\n', tmp_path)
    columns = replace(ALL_AUTO, target="label", template="{{ words | join(' ') }}{% if n == '1' %}!{% endif %}{{ row['n'] }}")
    examples = to_examples(found, shape_of(found, columns).columns, tmp_path / "a.arrow")
    assert examples["prompt"][:] == examples["input"][:] == ["a b!1", "2"]


def test_the_shape_of_rewritten_rows_is_that_of_the_first(tmp_path):
    (tmp_path / "own.py").write_text("def up(row):\n    return {'question': row['a'], 'answer': row['b'], 'more': ''}\n")
    columns = replace(ALL_AUTO, preprocess=f"{tmp_path}/own.py:up")
    shape = shape_of(table([{"a": "x", "b": "y"}]), columns)
    assert (shape.columns.input, shape.columns.target, shape.unused) == ("question", "answer", ("more",))
    assert to_examples(table([{"a": "x", "b": "y"}]), shape.columns, tmp_path / "a.arrow")["ground_truth"][:] == ["y"]


def test_bytes_are_no_answer(tmp_path):
    rows = Table(Source("TRAIN_DATA", "a.parquet"), Dataset.from_dict({"question": ["a"], "answer": [b"\xff"]}))
    with pytest.raises(DataError, match=r'column "answer" holds bytes that are no text\. Set TARGET_COLUMN to another column'):
        to_examples(rows, ALL_AUTO, tmp_path / "a.arrow")


def test_predict_reads_cells_as_training_did(tmp_path):
    rows = '{"question": 1.0, "more": null}\n{"question": [1], "more": "x"}\n'
    columns = ColumnMapping("question", "answer", "messages", "{input}|{more}")
    assert to_prompts(from_json(rows, tmp_path), columns) == ["1.0|", "[1]|x"]
    with pytest.raises(DataError, match=r'row 2, column "question": the cell is empty'):
        to_prompts(from_json('{"question": "a", "more": ""}\n{"question": "", "more": ""}\n', tmp_path), columns)
    with pytest.raises(DataError, match=r'no column "more"; found "question"'):
        to_prompts(from_json('{"question": "a"}\n', tmp_path), columns)


def test_predict_asks_chats_in_every_form(tmp_path):
    asked, columns = {"role": "user", "content": "a"}, ColumnMapping("input", "output_ground_truth", "messages", "Input: {input}")
    for text in ('{"messages": [%s]}', '{"prompt": [%s]}'):
        chats = to_chats(from_json(text % json.dumps(asked), tmp_path), columns, Chat([]))
        assert [chat.messages for chat in chats] == [[asked]]
    assert [chat.messages for chat in to_chats(from_json('{"input": 7}', tmp_path), columns, Chat([]))] == [
        [asked | {"content": "7"}]
    ]


def test_a_table_without_a_header_is_told_to_need_one(tmp_path):
    rows = [{"please book room 1 for the team": "please book room 2 for the team", "room 1": "room 2"}]
    with pytest.raises(DataError, match=r"The first row looks like data: put a row with the names of the columns above it\.$"):
        to_examples(table(rows), COLUMNS, tmp_path / "a.arrow")
