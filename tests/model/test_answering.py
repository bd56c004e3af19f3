"""What begins and ends an answer, from the model's config, its tokenizer and its chat template."""

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, T5Config

from job.errors import InputMissing
from job.model.answering import FILE, answering_config, load_own_config, plain_decoding, read_answering_config, stop_tokens
from job.model.load import BaseModel
from tests.zoo.families import build

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # by Marian's tokenizer


@pytest.fixture
def settle(tmp_path):
    """The answering config of a family of the zoo, with the model's own one changed."""

    def settle(name: str, ends: tuple = (), **own: object) -> GenerationConfig:
        build(name, tmp_path)
        config, tokenizer = AutoConfig.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
        found = load_own_config(BaseModel(str(tmp_path)), config)
        found.update(**own)
        return answering_config(found, config, tokenizer, ends)

    return settle


def test_an_answer_ends_with_the_tokenizers_end_marker_the_models_and_the_templates(settle):
    assert settle("t5").eos_token_id == [1]
    assert settle("t5", eos_token_id=[7, 8]).eos_token_id == [1, 7, 8]
    assert settle("t5", eos_token_id=None).eos_token_id == [1]
    assert settle("t5", ends=(9, None, 1)).eos_token_id == [1, 9]


@pytest.mark.parametrize(("family", "first", "forced"), [
    ("t5", 0, None), ("bart", 2, None), ("t5gemma", 2, None), ("mbart", "de_DE", None), ("mbart50", 2, "de_DE"),
    ("m2m100", 2, "__de__"),
])  # fmt: skip
def test_a_decoder_begins_as_its_family_publishes_it(settle, tmp_path, family, first, forced):
    found = settle(family)
    tokens = AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids
    assert found.decoder_start_token_id == (tokens(first) if isinstance(first, str) else first)
    assert found.forced_bos_token_id == (None if forced is None else tokens(forced))


def test_what_a_base_samples_with_is_left_behind_and_what_it_must_not_say_is_not(settle):
    own = {"do_sample": True, "temperature": 3.0, "min_length": 50, "num_beams": 6, "no_repeat_ngram_size": 3}
    found = settle("marian", bad_words_ids=[[5]], **own)
    assert not any(getattr(found, name) for name in own)
    assert found.bad_words_ids == [[5]]


def test_stop_tokens_are_one_list_the_labels_end_first(tokenizer):
    assert stop_tokens(GenerationConfig(eos_token_id=5), tokenizer, (6,)) == [tokenizer.eos_token_id, 5, 6]


def test_it_is_kept_in_the_adapters_folder(tmp_path):
    assert read_answering_config(tmp_path) is None
    plain_decoding(GenerationConfig(eos_token_id=[1, 5], forced_bos_token_id=4, pad_token_id=0)).save_pretrained(tmp_path)
    found = read_answering_config(tmp_path)
    assert (tmp_path / FILE).exists()
    assert (found.eos_token_id, found.forced_bos_token_id, found.pad_token_id, found.do_sample) == ([1, 5], 4, 0, False)


def test_a_folder_without_a_generation_config_has_it_in_its_config_and_a_damaged_one_is_told(tmp_path):
    config = T5Config(decoder_start_token_id=3, eos_token_id=4)
    assert load_own_config(BaseModel(str(tmp_path)), config).decoder_start_token_id == 3
    (tmp_path / FILE).write_text("{")
    with pytest.raises(InputMissing, match=r"MODEL_ID=.*: its generation_config.json cannot be read: Expecting property name"):
        load_own_config(BaseModel(str(tmp_path)), config)
