"""The languages of a tokenizer, as the families publish them: before an answer, behind it, or none."""

import pytest
from transformers import AutoTokenizer, GenerationConfig

from job.errors import SettingsError
from job.model.languages import Languages, choose_languages, describe_languages, known_languages, language_token
from tests.zoo.families import build

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # by Marian's tokenizer


@pytest.fixture
def tokenizer_of(tmp_path):
    def load(name: str):
        build(name, tmp_path)
        return AutoTokenizer.from_pretrained(tmp_path)

    return load


@pytest.mark.parametrize(("family", "source", "target", "is_first"), [
    ("mbart", "fr_XX", "ro_RO", False), ("mbart50", "fr_XX", "ro_RO", True), ("m2m100", "fr", "ro", True),
])  # fmt: skip
def test_the_languages_that_are_wanted_are_those_of_inputs_and_answers_and_are_saved(
    tokenizer_of, tmp_path, family, source, target, is_first
):
    tokenizer = tokenizer_of(family)
    choose_languages(tokenizer, Languages(source, target), GenerationConfig())
    languages = known_languages(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    for found in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert language_token(found) == (languages[target], is_first)
        assert languages[source] in found("the city").input_ids
        assert languages[target] in found(text_target="the city").input_ids


def test_a_model_that_begins_every_answer_with_a_language_writes_that(tokenizer_of):
    tokenizer = tokenizer_of("mbart50")
    tokenizer.tgt_lang = None
    choose_languages(tokenizer, Languages(), GenerationConfig(forced_bos_token_id=known_languages(tokenizer)["ro_RO"]))
    assert tokenizer.tgt_lang == "ro_RO"


def test_a_language_that_is_missing_or_unknown_is_told_with_some_that_are_there(tokenizer_of):
    tokenizer = tokenizer_of("mbart50")
    with pytest.raises(SettingsError, match=r"TARGET_LANGUAGE=xx: this model does not know it. Set it to one of its \d+, such as"):
        choose_languages(tokenizer, Languages(target="xx"), GenerationConfig())
    with pytest.raises(SettingsError, match="SOURCE_LANGUAGE=yy: this model does not know it"):
        choose_languages(tokenizer, Languages("yy", "ro_RO"), GenerationConfig())
    tokenizer.tgt_lang = None
    with pytest.raises(SettingsError, match=r"TARGET_LANGUAGE is not set, and this model writes many. Set it to one of its"):
        choose_languages(tokenizer, Languages(), GenerationConfig())


def test_a_source_that_is_not_set_is_told_as_what_the_tokenizer_takes_it_for(tokenizer_of):
    tokenizer = tokenizer_of("nllb_plain")
    choose_languages(tokenizer, Languages(target="deu_Latn"), GenerationConfig())
    assert known_languages(tokenizer)["eng_Latn"] in tokenizer("the city").input_ids
    assert describe_languages(tokenizer) == (
        "inputs are read as eng_Latn, answers written as deu_Latn; SOURCE_LANGUAGE and TARGET_LANGUAGE change it"
    )


@pytest.mark.parametrize("family", ["t5", "marian"])
def test_a_model_without_languages_takes_none(tokenizer_of, family):
    tokenizer = tokenizer_of(family)
    choose_languages(tokenizer, Languages(), GenerationConfig())
    assert language_token(tokenizer) == (None, False)
    assert describe_languages(tokenizer) is None
    with pytest.raises(SettingsError, match=r"TARGET_LANGUAGE=de: this model knows no languages by name. Leave it unset; a prefix"):
        choose_languages(tokenizer, Languages(target="de"), GenerationConfig())
