"""The settings: defaults and types of their own."""

import pytest
from pydantic import ValidationError

from job.config.environment import read_settings
from job.config.settings import Settings


def test_defaults_are_the_published_recipe():
    settings = read_settings()
    recipe = (settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.learning_rate, settings.num_train_epochs)
    assert recipe == (16, 32, 0.05, 1e-3, 5)
    assert (settings.effective_batch_size, settings.lr_scheduler_type, settings.eval_fraction) == (8, "linear", 0.2)
    assert (settings.prompt_template, settings.report_to, settings.trust_remote_code) == ("auto", ("tensorboard",), False)


def test_lists_are_comma_separated(monkeypatch):
    monkeypatch.setenv("TARGET_MODULES", "q, v,wi_0")
    assert read_settings().target_modules == ("q", "v", "wi_0")


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
