"""Rows are found in JSON however pandas, the hub and people lay them out."""

import json

import pandas
import pytest

from job.errors import DataError
from job.tables.json_layouts import find_records

ROWS = [{"input": f"day {number}", "target": f"answer {number}"} for number in range(3)]
FRAME = pandas.DataFrame(ROWS)


def rows_of(value: object) -> list:
    return [record for _, record in find_records("TRAIN_DATA=a.json", value).rows]


@pytest.mark.parametrize("orient", ["records", "index", "columns", "split", "table"])
def test_whatever_pandas_writes_is_read(orient):
    found = rows_of(json.loads(FRAME.to_json(orient=orient)))
    assert [{name: row[name] for name in ROWS[0]} for row in found] == ROWS


@pytest.mark.parametrize("orient", ["list", "records", "split"])
def test_whatever_a_frame_gives_as_a_dict_is_read(orient):
    assert rows_of(FRAME.to_dict(orient=orient)) == ROWS


@pytest.mark.parametrize(
    "value",
    [
        {"rows": ROWS}, {"anything": ROWS, "version": 1}, {"version": "2", "result": {"data": ROWS}}, {"train": ROWS},
        {f"id{number}": row for number, row in enumerate(ROWS)},
        {"features": [{"name": "input"}], "rows": [{"row_idx": number, "row": row} for number, row in enumerate(ROWS)]},
        [["input", "target"], *[list(row.values()) for row in ROWS]],
        {"input": [row["input"] for row in ROWS], "target": [row["target"] for row in ROWS], "name": "mine"},
    ],
)  # fmt: skip
def test_rows_are_found_under_any_key_and_as_columns(value):
    assert rows_of(value) == ROWS


def test_columns_of_cells_by_texts_of_an_index_are_no_rows():
    records = [{"input": f"day {number}", "target": f"answer {number}"} for number in range(9)]
    frame = pandas.DataFrame(records, index=[f"id{number}" for number in range(9)])
    assert rows_of(json.loads(frame.to_json())) == records
    assert rows_of(json.loads(frame[:2].to_json(orient="index"))) == records[:2]


def test_a_single_object_is_a_row():
    assert rows_of({"input": "a", "meta": {"n": 1}}) == [{"input": "a", "meta": {"n": 1}}]


def test_every_part_is_read_where_all_are_to_be_answered():
    found = find_records("FILE=a.json", {"train": ROWS, "test": ROWS[:1], "version": "1"}, every_part=True)
    assert found.rows == list(enumerate([*ROWS, ROWS[0]], 1))
    assert (found.held_out, found.notes) == (None, ('the rows under "train", "test" are read, counted one after another.',))


def test_columns_may_hold_objects_beside_texts():
    assert rows_of({"input": ["a", "b"], "meta": [{"n": 1}, {"n": 2}]}) == [
        {"input": "a", "meta": {"n": 1}},
        {"input": "b", "meta": {"n": 2}},
    ]


def test_a_chat_is_a_row_and_its_messages_are_none():
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert rows_of(chat) == [chat]


@pytest.mark.parametrize(
    ("parts", "held_out"),
    [
        ({"train": ROWS, "test": ROWS[:1]}, "test"),
        ({"test": ROWS[1:], "train": ROWS, "validation": ROWS[:1]}, "validation"),
    ],
)
def test_the_held_out_part_is_kept_apart_and_said(parts, held_out):
    found = find_records("TRAIN_DATA=a.json", parts)
    assert [record for _, record in found.rows] == ROWS
    assert [record for _, record in found.held_out] == ROWS[:1]
    assert found.notes[0] == f'rows under "train" are trained on, rows under "{held_out}" are kept apart for the evaluation.'
    assert found.notes[1:] == (('not used: the rows under "test".',) if len(parts) == 3 else ())


def test_the_questions_of_squad_are_rows_with_their_context():
    question = {"id": "7", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}, {"text": "she", "answer_start": 3}]}
    open_question = {"id": "8", "question": "Why?", "answers": [], "is_impossible": True}
    value = {"version": "2.0", "data": [{"title": "T", "paragraphs": [{"context": "Ann did.", "qas": [question, open_question]}]}]}
    found = find_records("TRAIN_DATA=a.json", value)
    assert found.rows == [
        (1, {"title": "T", "context": "Ann did.", "question": "Who?", "answers": {"text": ["Ann", "she"]}, "id": "7"}),
        (2, {"title": "T", "context": "Ann did.", "question": "Why?", "answers": {"text": []}, "id": "8"}),
    ]
    assert found.notes == ("SQuAD: 2 questions about 1 articles",)


@pytest.mark.parametrize("value", [3, "x", {}, None])
def test_what_holds_no_rows_is_refused_with_what_was_expected(value):
    with pytest.raises(DataError, match=r'^TRAIN_DATA=a\.json: a list of objects was expected: \[{"input"'):
        find_records("TRAIN_DATA=a.json", value)


def test_rows_under_two_unknown_keys_are_asked_about():
    with pytest.raises(DataError, match=r'there are rows under each of "a", "b"\. Leave one of them, or call it "data"\.'):
        find_records("TRAIN_DATA=a.json", {"a": ROWS, "b": ROWS})
