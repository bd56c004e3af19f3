"""The settings: defaults, types of their own, and what contradicts what."""

import pytest
from pydantic import ValidationError

from job.config.environment import read_settings
from job.config.settings import Settings
from job.errors import SettingsError


def message(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The error that these variables in the process environment give."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    return str(raised.value)


def test_defaults_are_the_published_recipe():
    settings = read_settings()
    recipe = (settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.learning_rate, settings.num_train_epochs)
    assert recipe == (16, 32, 0.05, 1e-3, 5)
    assert (settings.effective_batch_size, settings.lr_scheduler_type, settings.eval_fraction) == (8, "linear", 0.2)
    assert (settings.prompt_template, settings.report_to, settings.trust_remote_code) == ("auto", ("tensorboard",), False)


@pytest.mark.parametrize(
    "variables",
    [
        {"EVAL_DATA": "a.csv", "EVAL_FRACTION": "0.1"},
        {"MAX_STEPS": "5", "NUM_TRAIN_EPOCHS": "2"},
        {"EFFECTIVE_BATCH_SIZE": "8", "PER_DEVICE_TRAIN_BATCH_SIZE": "3"},
        {"SAVE_STRATEGY": "steps"},
        {"SAVE_STEPS": "10"},
        {"EVAL_STRATEGY": "steps"},
        {"HF_TOKEN": "hf_a", "HF_TOKEN_FILE": "/run/secrets/token"},
        {"QUANTIZATION": "int8"},
        {"TRAIN_DATA": "rows.csv"},
    ],
    ids="+".join,
)
def test_contradictory_settings_name_the_variables(monkeypatch, variables):
    said = message(monkeypatch, **variables)
    assert all(name in said for name in variables) or (
        variables == {"TRAIN_DATA": "rows.csv"} and said.startswith("MODEL_ID is not set")
    )


def test_lists_are_comma_separated(monkeypatch):
    monkeypatch.setenv("TARGET_MODULES", "q, v,wi_0")
    assert read_settings().target_modules == ("q", "v", "wi_0")


CONTRADICTIONS = {
    "PER_DEVICE_TRAIN_BATCH_SIZE": ({"effective_batch_size": 6, "per_device_train_batch_size": 4}, {"effective_batch_size": 8}),
    "SAVE_STEPS": ({"save_steps": 3}, {"save_strategy": "steps"}),
    "EVAL_STEPS": ({"eval_steps": 3}, {"eval_strategy": "steps"}),
    "HUB_MODEL_ID": ({"push_to_hub": True}, {"hub_model_id": "me/mine"}),
    "EARLY_STOPPING_PATIENCE needs measurements, EVAL_STRATEGY=no": (
        {"early_stopping_patience": 2, "eval_strategy": "no"}, {"eval_strategy": "epoch"}
    ),
    "EARLY_STOPPING_PATIENCE needs LOAD_BEST_MODEL_AT_END=true": (
        {"early_stopping_patience": 2, "load_best_model_at_end": False}, {"load_best_model_at_end": True}
    ),
    "METRIC_FOR_BEST_MODEL": ({"metric_for_best_model": "chrf", "eval_strategy": "no"}, {"eval_strategy": "epoch"}),
    "QUANTIZATION=int8": ({"quantization": "int8", "device": "cpu"}, {"device": "auto"}),
    "MAX_STEPS": ({"max_steps": 3, "num_train_epochs": 2}, {"max_steps": None}),
    "EVAL_FRACTION": ({"eval_data": "a.csv", "eval_fraction": 0.5}, {"eval_data": None}),
    "HF_TOKEN_FILE": ({"hf_token": "hf_a", "hf_token_file": "token"}, {"hf_token": None}),
    "MODEL_ID": ({"train_data": "a.csv"}, {"model_id": "google/flan-t5-small"}),
}  # fmt: skip


@pytest.mark.parametrize("named", CONTRADICTIONS)
def test_what_contradicts_is_refused_and_the_change_that_is_named_helps(named):
    wrong, change = CONTRADICTIONS[named]
    with pytest.raises(ValidationError, match=named):
        Settings(**wrong)
    Settings(**wrong | change)


def test_what_is_a_default_contradicts_nothing():
    """A number of steps beside the default epochs, held-out rows beside the default fraction."""
    asked = Settings(max_steps=3, eval_data="a.csv", eval_strategy="no")
    assert (asked.num_train_epochs, asked.eval_fraction, asked.metric_for_best_model) == (5, 0.2, "loss")


@pytest.mark.parametrize("text", ["auto", "p1", "p85", "p100", "1", "256", "100000"])
def test_a_length_is_auto_a_percentile_or_a_number(text):
    assert Settings(max_source_length=text).max_source_length == text


@pytest.mark.parametrize("text", ["", "0", "p0", "p101", "-3", "p", "85%", "p8.5", "full", "1e3", "pp85", "AUTO"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(ValidationError, match="a number of tokens, a percentile"):
        Settings(max_target_length=text)


@pytest.mark.parametrize(
    ("text", "words"), [("a", ("a",)), (" a , b,", ("a", "b")), (",", ()), ("all-linear", ("all-linear",)), ("a b", ("a b",))]
)
def test_words_are_what_is_between_commas_without_white_space(text, words):
    assert Settings(modules_to_save=text).modules_to_save == words


@pytest.mark.parametrize("name", ["a", "7", "Run_1.2-b"])
def test_a_run_may_be_named(name):
    assert Settings(run_name=name).run_name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-a", "a/b", "a b", "a\nb", "ä"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValidationError):
        Settings(run_name=name)


@pytest.mark.parametrize("spec", ["score.py", "score", "score.py:", "score.py:1a", ".py:f", "score.txt:f", "score.py:a-b"])
def test_what_names_no_function_of_a_file_is_refused(spec):
    with pytest.raises(ValidationError):
        Settings(metric=spec)


def test_a_setting_never_changes():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().seed = 7


def test_a_token_is_in_no_text_of_the_settings():
    settings = Settings(hf_token="hf_topsecret")
    assert "topsecret" not in f"{settings!r} {settings} {settings.model_dump_json()}"
