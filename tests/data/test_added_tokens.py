"""Characters in the places of spare tokens: everything comes back, all else stays as it was, by plain transformers too."""

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from job.data.added_tokens import add_tokens, parse_characters, spare_tokens, tokenise_adding
from job.data.tokenise import Encoding
from job.errors import SettingsError
from tests import tiny_tokenizers

ADDED = ("{", "}", "<", "\n", "\t", "  ", "½", "\N{NO-BREAK SPACE}", "▁", "北", "\N{COMBINING ACUTE ACCENT}")
TEXTS = (
    '{"city": "Paris"}',
    '{\n  "a": {},\n    "b": "{{ }}"\n}', "the  total   is 12", "a\tb\n\nc", "x { y } z", "{x{y}}", "a<b < 12",
    "1½ price", "12\N{NO-BREAK SPACE}cm", "a▁b ▁ c", "北 北北a", "cafe\N{COMBINING ACUTE ACCENT}", "one \n two", "\n\n{",
)  # fmt: skip


@pytest.fixture(scope="module", params=["t5", "sentinels_beside"])
def tokenizer(request, tmp_path_factory):
    """T5's, its sentinels in the vocabulary, as FLAN-T5 has them, or beside it."""
    return getattr(tiny_tokenizers, request.param)(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def extended(tokenizer, tmp_path_factory):
    """The extended tokenizer as it is read from the disk."""
    folder = tmp_path_factory.mktemp("saved")
    add_tokens(tokenizer, ADDED).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def read_back(tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_with_added_characters_come_back_letter_by_letter(tokenizer, extended, text):
    assert read_back(tokenizer, text) != text
    assert read_back(extended, text).strip() == text.strip()
    assert tokenizer.unk_token_id not in extended(text).input_ids


@pytest.mark.parametrize("text", [*tiny_tokenizers.SENTENCES[:6], "see <extra_id_0> and <extra_id_1>.", "spaces  in a row"])
def test_texts_without_them_have_the_ids_that_they_had(tokenizer, text):
    assert add_tokens(tokenizer, ("{", "\n"))(text).input_ids == tokenizer(text).input_ids


def test_each_character_has_the_place_of_a_sentinel_the_last_ones_first(tokenizer):
    extended = add_tokens(tokenizer, ("{", "\n"))
    for character, sentinel in (("{", "<extra_id_19>"), ("\n", "<extra_id_18>")):
        assert tokenizer.convert_tokens_to_ids(sentinel) in extended(f"the {character} total").input_ids
        assert sentinel not in extended.get_vocab()
    assert len(extended) == len(tokenizer)
    assert len(spare_tokens(extended)) == 18


def test_what_is_saved_is_what_was_made(tokenizer, extended):
    made = add_tokens(tokenizer, ADDED)
    assert [made(text).input_ids for text in TEXTS] == [extended(text).input_ids for text in TEXTS]
    assert made.all_special_ids == extended.all_special_ids
    for name in ("eos_token_id", "pad_token_id", "unk_token_id", "model_max_length", "padding_side", "model_input_names"):
        assert getattr(tokenizer, name) == getattr(extended, name), name


def test_an_added_character_is_not_skipped_as_special(tokenizer, extended):
    taken = set(tokenizer.all_special_ids) - set(extended.all_special_ids)
    assert len(taken) == len(ADDED)


def test_a_chat_template_is_kept(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages }}")
    assert add_tokens(tokenizer, ("{",)).chat_template == "{{ messages }}"


def test_nothing_to_add_changes_nothing(tokenizer):
    assert add_tokens(tokenizer, ()) is tokenizer


def test_only_what_the_tokenizer_lacks_is_taken_of_a_list(tokenizer):
    assert set(parse_characters(r"{},a \n", tokenizer)) == {"{", "}", "\n"}
    assert set(parse_characters("{  \t", tokenizer)) == {"{", "\t", "  "}
    assert parse_characters("abc", tokenizer) == ()


def test_signs_are_added_to_lower_case_words_and_capitals_are_refused():
    tokenizer = tiny_tokenizers.lower_case()
    extended = add_tokens(tokenizer, ("{", "}"))
    assert read_back(extended, "it is {so}") == "it is { so }"
    with pytest.raises(SettingsError, match=r'ADD_TOKENS: a tokenizer of this kind, \w+, cannot be given "S". Choose a model that'):
        add_tokens(tokenizer, ("S",))


def test_a_tokenizer_that_reads_answers_otherwise_than_inputs_is_refused(tokenizer, tmp_path):
    class Languages(type(tokenizer)):
        def _switch_to_target_mode(self):
            self.backend_tokenizer.post_processor = None

    tokenizer = tiny_tokenizers.t5(tmp_path)
    tokenizer.__class__ = Languages
    with pytest.raises(SettingsError, match="a tokenizer of this kind, Languages, cannot be given"):
        add_tokens(tokenizer, ("{",))


def test_a_tokenizer_without_spare_tokens_says_so_in_one_line(tokenizer, tmp_path):
    for other in (tiny_tokenizers.byte_level(), tiny_tokenizers.slow(tmp_path)):
        with pytest.raises(SettingsError) as error:
            add_tokens(other, ("{", "}"))
        assert str(error.value) == (
            "ADD_TOKENS: 2 characters are to be added, and this model's tokenizer has 0 spare tokens. Choose a model that reads "
            "bytes, such as google/byt5-base, or one that knows these characters, or set ADD_TOKENS=none."
        )
    with pytest.raises(SettingsError, match="21 characters are to be added, and this model's tokenizer has 20 spare tokens"):
        add_tokens(tokenizer, tuple(map(chr, range(0x5000, 0x5000 + 21))))


def examples(*answers: str) -> Dataset:
    rows = {"input": answers, "prompt": ["where"] * len(answers), "ground_truth": answers}
    return Dataset.from_dict(rows | {"row": [f"row {number}" for number in range(len(answers))]})


def tokenised(tokenizer, parts, wanted, work):
    return tokenise_adding(tuple(parts), Encoding(tokenizer, seq2seq=True), wanted, 1, work)


def test_auto_adds_what_the_training_answers_lack_the_most_frequent_first(tokenizer, tmp_path):
    parts = [examples("{12}", "{13", "a </s>"), examples("<14>")]
    found, unknown = tokenised(tokenizer, parts, "auto", tmp_path)
    assert unknown.added == ("{", "}")
    assert unknown.answers[0].characters == {"</s>": 1}, "which is no character"
    assert unknown.answers[1].characters == {"<": 1, ">": 1}, "held-out rows are not looked at"
    extended = add_tokens(tokenizer, unknown.added)
    assert found[0]["target_ids"][0] == extended("{12}").input_ids
    assert found[0].column_names == ["input", "ground_truth", "row", "source_ids", "target_ids"]


def test_auto_adds_as_many_as_there_are_places(tokenizer, tmp_path):
    letters = list(map(chr, range(0x5000, 0x5000 + 30)))
    parts = [examples(*letters, *letters[10:]), examples("12")]
    _, unknown = tokenised(tokenizer, parts, "auto", tmp_path)
    assert set(letters[10:]) == set(unknown.added)
    assert unknown.answers[0].lossy == 10


def test_none_adds_nothing_and_a_list_what_it_names(tokenizer, tmp_path):
    parts = [examples("{12}"), examples("12")]
    assert tokenised(tokenizer, parts, "none", tmp_path)[1].added == ()
    unknown = tokenised(tokenizer, parts, "{<", tmp_path)[1]
    assert unknown.added == ("<", "{")
    assert unknown.answers[0].characters == {"}": 1}
