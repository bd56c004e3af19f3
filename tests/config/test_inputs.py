"""Where a run's inputs are, and what the run is called."""

import os
from pathlib import Path

import pytest

import entrypoint
from job.config.inputs import (
    DEMO_BASE,
    base_model,
    column_mapping,
    data_config,
    eval_source,
    hub_token,
    published_model_id,
    run_name,
    train_source,
)
from job.config.settings import Settings
from job.data.column_mapping import AUTO, ColumnMapping
from job.errors import SettingsError
from job.model.load import BaseModel
from job.tables.table import Source

ROOT = Path(entrypoint.__file__).parent


@pytest.mark.parametrize(
    ("model_id", "train_data", "name"),
    [
        ("demo", "demo", "demo"),
        ("google/flan-t5-xl", "/data/mails.xlsx", "flan-t5-xl-mails"),
        ("./models/mine/", "rows.2024.csv", "mine-rows.2024"),
        ("google/flan-t5-base", "data/*.csv", "flan-t5-base"),
        ("google/flan-t5-base", "data/parts/*", "flan-t5-base-parts"),
        ("google/flan-t5-base", "/data/my rows (new).csv", "flan-t5-base-my-rows-new"),
        ("/models/x", "/data/x.csv", "x"),
        ("/models/é", "/data/ü.csv", "demo"),
    ],
)
def test_a_run_is_called_after_model_and_data(model_id, train_data, name):
    assert run_name(Settings(model_id=model_id, train_data=train_data)) == name


@pytest.mark.parametrize("train_data", ["..", "../..", ".", "/", "-x", "~/.hidden", "a/../..", "*.csv", " "])
def test_no_input_makes_a_name_that_leads_out_of_the_output(train_data):
    name = run_name(Settings(model_id="../../x", train_data=train_data))
    assert Settings(run_name=name).run_name == name, "it is one that a person might have set"


def test_a_name_that_was_set_is_the_name():
    assert run_name(Settings(run_name="mine")) == "mine"


def test_the_token_is_given_in_clear_to_those_who_need_it():
    settings = Settings(hf_token="hf_abc", eval_data="b.csv")
    assert (
        hub_token(settings) == base_model(settings).token == train_source(settings).token == eval_source(settings).token == "hf_abc"
    )
    assert hub_token(Settings()) is None


def test_the_demos_base_is_found_from_any_folder_and_named_the_same_in_every_clone():
    assert base_model(Settings()).model_id == str(ROOT / DEMO_BASE)
    assert (Path(base_model(Settings()).model_id) / "config.json").exists()
    assert published_model_id(Settings()) == DEMO_BASE == "job/demo/base"
    assert base_model(Settings(model_id="other"), DEMO_BASE).model_id == str(ROOT / DEMO_BASE)


def test_an_adapter_names_its_base_and_the_settings_say_how_to_load_it():
    settings = Settings(model_id="me/mine", model_revision="v1", trust_remote_code=True, allow_pickle=True)
    assert base_model(settings) == BaseModel("me/mine", "v1", None, True, True)
    assert base_model(settings, "me/mine") == base_model(settings)
    assert published_model_id(settings) == "me/mine"


def test_what_is_said_of_one_model_holds_for_no_other_that_an_adapter_names():
    """Whoever wrote the adapter's folder could else have a model of their own run its code."""
    settings = Settings(model_id="me/mine", model_revision="v1", trust_remote_code=True, allow_pickle=True, hf_token="hf_a")
    assert base_model(settings, "me/other") == BaseModel("me/other", None, "hf_a", False, False)
    assert base_model(Settings(trust_remote_code=True), DEMO_BASE).trust_remote_code, "demo, under its other name"


def test_the_rows_are_where_the_settings_say():
    settings = Settings(model_id="x", train_data="a.xlsx", eval_data="b.xlsx", sheet="mine", train_split="t", eval_split="e")
    assert train_source(settings) == Source("TRAIN_DATA", "a.xlsx", "mine", "t", None)
    assert eval_source(settings) == Source("EVAL_DATA", "b.xlsx", "mine", "e", None)
    assert eval_source(Settings()) is None
    assert Path(train_source(Settings()).location) == ROOT / "job" / "demo" / "appointments.xlsx"


def test_what_is_taken_from_the_table_is_what_the_settings_name():
    asked = {"input_column": "a", "target_column": "b", "messages_column": "c", "prompt_template": "{a}", "preprocess": "p.py:f"}
    settings = Settings(**asked, empty_rows="drop", source_language="en", target_language="de")
    assert column_mapping(settings) == ColumnMapping("a", "b", "c", "{a}", "p.py:f", "drop", ("en", "de"))
    assert column_mapping(Settings()) == ColumnMapping(AUTO, AUTO, AUTO, AUTO)


def test_the_data_is_prepared_as_the_settings_say():
    asked = {
        "eval_fraction": 0.5, "seed": 3, "max_source_length": "p90", "max_target_length": "7", "too_long": "drop",
        "max_truncated_targets": 0.2, "preprocessing_num_workers": 3,
    }  # fmt: skip
    made = data_config(Settings(**asked))
    assert (made.eval_fraction, made.seed, made.max_lengths, made.too_long) == (0.5, 3, ("p90", "7"), "drop")
    assert (made.max_truncated_targets, made.num_proc, made.evaluation) == (0.2, 3, None)
    assert data_config(Settings()).num_proc == os.cpu_count()
    assert not made.own_held_out  # EVAL_FRACTION is asked for
    assert data_config(Settings()).own_held_out


def test_a_preprocess_function_that_is_missing_is_told_before_anything_is_read():
    settings = Settings(model_id="x", train_data="nothing.csv", preprocess="none.py:f")
    with pytest.raises(SettingsError, match=r"PREPROCESS=none.py:f: no such file as none\.py"):
        data_config(settings)
    Path("own.py").write_text("def other(row):\n    return row\n")
    with pytest.raises(SettingsError, match=r"own\.py has no function f"):
        data_config(Settings(preprocess="own.py:f"))
