"""A typed cell becomes the text that a person sees, whatever format it comes from."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from job.tables.cell_text import answer_of, as_text, is_one_of_several, shown, text_rows
from job.tables.read import read_table
from job.tables.table import Source

PLACE = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("1.0", "1.0"), (1, "1"), (1.0, "1.0"), (0.1, "0.1"), (10**30, "1" + 30 * "0"), (True, "true"), (np.bool_(False), "false"),
        (None, None), (float("nan"), None), (float("inf"), "inf"), (Decimal("1.50"), "1.50"), (Decimal("1E+3"), "1000"),
        (datetime.date(2026, 11, 26), "2026-11-26"), (datetime.datetime(2026, 11, 26), "2026-11-26"),
        (datetime.datetime(2026, 11, 26, 9, 5), "2026-11-26 09:05:00"), (datetime.time(9, 5), "09:05:00"),
        (datetime.datetime(2026, 11, 26, tzinfo=PLACE), "2026-11-26 00:00:00+01:00"),
        (np.float32(0.1), "0.1"), (np.int64(7), "7"), ([1], [1]), ({"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_a_cell_is_the_text_that_a_person_sees(cell, text):
    assert as_text(cell) == text


def test_every_type_of_a_parquet_file_is_text_but_what_nests():
    columns = {
        "whole": [1, None], "real": [1.0, float("nan")], "short": pa.array([0.1, 3], pa.float32()), "sure": [True, None],
        "day": [datetime.date(2020, 1, 2), None], "when": pa.array([datetime.datetime(2020, 1, 2), None], pa.timestamp("ns")),
        "price": [Decimal("1.50"), None], "kind": pa.array(["x", None]).dictionary_encode(), "nothing": pa.nulls(2),
        "bytes": [b"\xc3\xa9", None], "list": [["a"], []],
    }  # fmt: skip
    pq.write_table(pa.table(columns), "a.parquet")
    first, second = read_table(Source("TRAIN_DATA", "a.parquet")).rows.to_list()
    assert first == {
        "whole": "1", "real": "1.0", "short": "0.1", "sure": "true", "day": "2020-01-02", "when": "2020-01-02", "price": "1.50",
        "kind": "x", "nothing": None, "bytes": "é", "list": ["a"],
    }  # fmt: skip
    assert second == dict.fromkeys(columns) | {"short": "3.0", "list": []}


def test_bytes_that_are_no_text_stay_bytes():
    rows = text_rows(Dataset.from_dict({"a": [b"\xff"]}))
    assert rows.to_list() == [{"a": b"\xff"}]


def test_a_class_is_its_name_and_minus_one_is_no_answer():
    features = Features({"label": ClassLabel(names=["ham", "spam"])})
    assert text_rows(Dataset.from_dict({"label": [1, 0, -1]}, features=features))["label"][:] == ["spam", "ham", None]


def test_columns_of_text_are_left_where_they_are():
    rows = Dataset.from_dict({"a": ["x"]}, features=Features({"a": Value("string")}))
    assert text_rows(rows) is rows


def test_chosen_rows_of_a_dataset_are_those_that_become_text():
    assert text_rows(Dataset.from_dict({"a": [1, 2, 3]}).select([2, 0]))["a"][:] == ["3", "1"]


def test_the_same_number_is_the_same_text_in_every_format():
    frame = pandas.DataFrame({"input": [1, 2, 3], "output_ground_truth": [True, False, True]})
    frame.to_parquet("a.parquet")
    frame.to_json("a.json", orient="records")
    frame.to_json("a.jsonl", orient="records", lines=True)
    Path("b.jsonl").write_text('{"input": 1, "output_ground_truth": true}\n{"input": "2", "output_ground_truth": "false"}\n')
    texts = {
        name: read_table(Source("TRAIN_DATA", name)).rows["input"][:2] for name in ("a.parquet", "a.json", "a.jsonl", "b.jsonl")
    }
    assert set(map(tuple, texts.values())) == {("1", "2")}
    answers = [read_table(Source("TRAIN_DATA", name)).rows["output_ground_truth"][:2] for name in texts]
    assert answers == [["true", "false"]] * 4


@pytest.mark.parametrize(
    ("cell", "answer", "several"),
    [
        (["a", "b"], "a", True), (["", None, "b"], "b", True), (["a", "a"], "a", False), ([], None, False), ("a", "a", False),
        ([1.5, 2], "1.5", True), ({"n": ["ä"]}, '{"n": ["ä"]}', False), ([{"n": 1}], '[{"n": 1}]', False), (None, None, False),
    ],
)  # fmt: skip
def test_of_several_answers_the_first_counts_and_an_object_is_its_json(cell, answer, several):
    assert (answer_of(cell), is_one_of_several(cell)) == (answer, several)


def test_what_nests_is_shown_as_its_json():
    assert json.loads(shown({"a": [1, "ü"]})) == {"a": [1, "ü"]}
    assert shown(["ü"]) == '["ü"]'
    assert shown("[x") == "[x"
