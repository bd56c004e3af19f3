"""What settings may not hold: what contradicts what, and secrets."""

import pytest
from pydantic import ValidationError

from job.config.settings import Settings
from tests.config.refusals import message


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


@pytest.mark.parametrize("value", ["https://me:secret@host/x.csv", "https://host/x.csv?token=secret", f"hf_{'secret' * 6}"])
@pytest.mark.parametrize("name", ["TRAIN_DATA", "EVAL_DATA", "MODEL_ID", "SHEET"])
def test_a_token_or_a_password_in_what_logs_and_reports_show_is_refused_and_not_repeated(monkeypatch, name, value):
    said = message(monkeypatch, **{name: value})
    assert said.startswith(f"{name} holds a token or a password, which logs and reports would show. Set HF_TOKEN")
    assert "secret" not in said


def test_a_token_in_a_variable_of_another_type_is_not_repeated(monkeypatch):
    assert "secret" not in message(monkeypatch, LEARNING_RATE=f"hf_{'secret' * 6}")
