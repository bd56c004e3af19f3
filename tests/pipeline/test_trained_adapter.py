"""Rows are read as in the training: its columns, its template, its PREPROCESS, once."""

from pathlib import Path

import pytest

from job.errors import DataError, InputMissing, SettingsError
from job.pipeline.trained_adapter import TrainedAdapter
from job.tables.read import in_memory
from job.tables.table import Source, Table


def table_of(**columns):
    return Table(Source("FILE", "new"), in_memory(columns)[0])


def test_a_row_is_the_template_around_its_input_and_rows_without_one_are_left_out(make_settings, finished_run):
    adapter = TrainedAdapter.of(make_settings())
    rows, prompts = adapter.prompts(table_of(input=["a", None, "c"]))
    assert rows == [0, 2]
    assert prompts == [adapter.tokenizer(f"Input: {text}").input_ids for text in "ac"]
    assert adapter.limit == 512


def test_the_same_adapter_for_another_thread_shares_no_tokenizer(make_settings, finished_run):
    adapter = TrainedAdapter.of(make_settings())
    other = adapter.with_own_tokenizer()
    assert other.tokenizer is not adapter.tokenizer
    assert other.prompts(table_of(input=["a"])) == adapter.prompts(table_of(input=["a"]))


def test_another_input_column_may_be_named(make_settings, finished_run):
    table = table_of(question=["a"])
    with pytest.raises(DataError, match='no column "input"'):
        TrainedAdapter.of(make_settings()).prompts(table)
    adapter = TrainedAdapter.of(make_settings(input_column="question"))
    assert adapter.prompts(table)[1] == [adapter.tokenizer("Input: a").input_ids]


def test_preprocess_is_called_once_a_row_where_the_environment_names_it(run_job, make_settings, write_rows, questions):
    Path("own.py").write_text("def change(row):\n    return row | {'input': row['input'] + '!'}\n")
    settings = make_settings(preprocess="own.py:change", run_name="own")
    variables = {
        "MODEL_ID": settings.model_id,
        "TRAIN_DATA": "rows.csv",
        "MAX_STEPS": 1,
        "EVAL_MAX_ROWS": 2,
        "METRICS": "exact_match",
    }
    code, said = run_job(**variables, PREPROCESS="own.py:change", RUN_NAME="own")
    assert code == 0, said
    adapter = TrainedAdapter.of(settings)
    assert adapter.prompts(table_of(input=["a"]))[1] == [adapter.tokenizer("Input: a!").input_ids]
    with pytest.raises(SettingsError, match="what an adapter's folder names is not run"):
        TrainedAdapter.of(make_settings(run_name="own"))


def test_without_a_run_it_is_told(make_settings):
    with pytest.raises(InputMissing, match="no adapter there"):
        TrainedAdapter.of(make_settings(run_name="none"))
