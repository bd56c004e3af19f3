"""What makes two runs the same run, what the table of runs shows, and that no secret is in either."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from job.config import identity as module
from job.config.environment import read_dotenv, read_settings
from job.config.identity import (
    DOES_NOT_CHANGE_THE_RESULT,
    EVALUATION,
    SECRETS,
    USUALLY_VARIED,
    format_value,
    hparams,
    identity,
    is_same,
    training_identity,
    variables,
    without_evaluation,
)
from job.config.settings import Settings

FIELDS = set(Settings.model_fields)
TOKENS = {"hf_token": "hf_topsecret"}, {"hf_token_file": Path("/run/secrets/topsecret")}, {"serve_token": "topsecret"}


@pytest.mark.parametrize("name", ["DOES_NOT_CHANGE_THE_RESULT", "EVALUATION", "SECRETS", "USUALLY_VARIED"])
def test_only_settings_that_there_are_are_named(name):
    assert set(getattr(module, name)) <= FIELDS


def test_every_setting_with_a_secret_is_one_of_the_secrets():
    assert {name for name in FIELDS if "token" in name and "tokens" not in name} == SECRETS
    assert SECRETS <= DOES_NOT_CHANGE_THE_RESULT


def test_what_the_evaluation_reads_changes_a_result():
    assert not EVALUATION & DOES_NOT_CHANGE_THE_RESULT
    assert set(USUALLY_VARIED) <= set(training_identity(Settings()))


def test_the_identity_is_every_setting_but_those_that_change_nothing():
    assert set(identity(Settings())) == FIELDS - DOES_NOT_CHANGE_THE_RESULT
    assert set(training_identity(Settings())) == FIELDS - DOES_NOT_CHANGE_THE_RESULT - EVALUATION


CHANGES = {
    "hf_token": "hf_x", "hf_home": "/cache", "output_dir": "elsewhere", "run_name": "x", "overwrite": True, "log_level": "debug",
    "logging_steps": 3, "report_to": "none", "preprocessing_num_workers": 3, "save_strategy": "no",
    "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "eval_samples": 0, "checkpoint_minutes": 1, "grace_s": 3,
    "max_hours": 2, "padding_free": "false", "merge_precision": "fp32", "push_to_hub": True, "hub_model_id": "me/x",
    "gpu_hourly_cost": 2, "plan_gpu": "T4", "tensorboard_port": 7000,
    "serve_host": "0.0.0.0", "serve_port": 9000, "serve_token": "x", "serve_names": "gpu1", "serve_queue": 3,
}  # fmt: skip


def test_where_a_run_lies_and_how_it_is_watched_does_not_change_what_it_is():
    assert set(CHANGES) <= DOES_NOT_CHANGE_THE_RESULT
    assert identity(Settings(**CHANGES)) == identity(Settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora_r", 4), ("seed", 7), ("learning_rate", 0.5), ("prompt_template", "{input}"), ("eval_strategy", "no"),
        ("full_determinism", True), ("precision", "fp32"), ("quantization", "nf4"), ("too_long", "drop"), ("eval_data", "a.csv"),
    ],
)  # fmt: skip
def test_what_changes_an_adapter_changes_both_identities(name, value):
    assert identity(Settings(**{name: value})) != identity(Settings())
    assert training_identity(Settings(**{name: value})) != training_identity(Settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [("metrics", "chrf"), ("metric", "a.py:f"), ("max_new_tokens", 3), ("num_beams", 2), ("eval_max_rows", 5)],
)
def test_what_changes_the_evaluation_alone_leaves_the_adapters_identity(name, value):
    other = Settings(**{name: value})
    assert identity(other) != identity(Settings())
    assert training_identity(other) == training_identity(Settings()) == without_evaluation(identity(other))


def test_an_identity_is_what_json_gives_back():
    found = identity(Settings(target_modules="q,v", eval_data="a.csv"))
    assert json.loads(json.dumps(found)) == found
    assert found["target_modules"] == ["q", "v"]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: next(iter(token)))
def test_secrets_are_in_nothing_that_is_shown_or_kept(token):
    settings = Settings(**token)
    shown = [variables(settings), variables(settings, exclude_defaults=True), hparams(settings), identity(settings)]
    for found in shown:
        assert not SECRETS & {name.lower() for name in found}
        assert "topsecret" not in str(found)


def test_the_table_of_runs_has_what_usually_varies_and_what_is_no_default(monkeypatch):
    monkeypatch.delenv("DEVICE")
    found = hparams(Settings(lora_dropout=0.3, output_dir="elsewhere"))
    assert set(found) == {*USUALLY_VARIED, "lora_dropout"}
    assert (found["lora_r"], found["lora_dropout"]) == (16, 0.3)


def test_the_variables_are_such_that_a_person_could_set_them(tmp_path):
    """Written to `.env` and read again they are the same settings."""
    asked = {"lora_r": 4, "use_dora": True, "target_modules": "q,v", "learning_rate": 1e-5, "sheet": None, "max_steps": 3}
    settings = Settings(**asked)
    changed = variables(settings, exclude_defaults=True)
    assert changed == {
        "LORA_R": "4", "USE_DORA": "true", "TARGET_MODULES": "q,v", "LEARNING_RATE": "1e-05", "MAX_STEPS": "3", "DEVICE": "cpu",
    }  # fmt: skip
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in changed.items()))
    assert read_dotenv(tmp_path / ".env") == changed
    assert read_settings(tmp_path / ".env") == settings
    assert set(variables(settings)) == {name.upper() for name in FIELDS - SECRETS}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (True, "true"), (False, "false"), ([], ""), (["a", "b"], "a,b"), (("a",), "a"), (5, "5"), (0.001, "0.001"),
        ("Say {input}\n", "Say {input}\n"), (timedelta(seconds=1), "0:00:01"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_in_dotenv(value, text):
    assert format_value(value) == text


def test_auto_is_what_the_names_of_before_were_and_nothing_else_is():
    assert is_same("input_column", "input", "auto")
    assert is_same("prompt_template", "Input: {input}", "auto")
    assert not is_same("input_column", "question", "auto")
    assert not is_same("input_column", "auto", "input")
    assert not is_same("task", "input", "auto")
    assert is_same("seed", 1, 1)
