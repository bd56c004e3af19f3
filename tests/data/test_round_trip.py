"""What tokenizers of each kind lose of a text, against what is known of the kind."""

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from job.data.chat_template import Chat
from job.data.round_trip import RoundTrip, add_missing, texts_in
from tests import tiny_tokenizers


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return tiny_tokenizers.t5(tmp_path_factory.mktemp("t5"))


def missing(tokenizer, text: str, is_answer: bool = True, **options) -> list[str] | None:
    ids = tokenizer(**{"text_target" if is_answer else "text": [text]}).input_ids
    return RoundTrip(tokenizer, **options).missing([text], ids, is_answer)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the total: 12", None),
        ('{"a": "b"}', ["{", "}"]),
        ("a < b", ["<"]),
        ("one\ntwo\tthree", ["\t", "\n"]),
        ("北京 12", ["京", "北"]),
        ("½ price", ["½"]),
        ("cafe\N{COMBINING ACUTE ACCENT}", ["\N{COMBINING ACUTE ACCENT}"]),
        ("\n the total \n", None),
        ("the  total", [" ", "  "]),
        ("12\N{NO-BREAK SPACE}cm", [" ", "\N{NO-BREAK SPACE}"]),
        ("the  {total", ["  ", "{"]),
        ("no {, no matter what", ["{"]),
        ("a zero\N{ZERO WIDTH SPACE}width", ["\N{ZERO WIDTH SPACE}"]),
    ],
)
@pytest.mark.parametrize("is_answer", [True, False])
def test_t5_lacks_what_its_sentencepiece_lacks_and_what_it_normalises(t5, text, expected, is_answer):
    assert missing(t5, text, is_answer) == expected


def test_the_text_of_a_stop_token_ends_an_answer_and_is_read_in_an_input(t5):
    assert missing(t5, "yes </s> and more") == ["</s>"]
    assert missing(t5, "yes</s>", is_answer=True) == ["</s>"]
    assert missing(t5, "yes</s> more", is_answer=False) is None
    assert missing(t5, "<pad>12") == ["<pad>"]
    assert missing(tiny_tokenizers.lower_case(), "so [CLS] it is") == ["[CLS]"]


def test_special_tokens_that_end_nothing_are_a_part_of_the_answer(t5):
    assert missing(t5, "<extra_id_0> Paris") is None
    assert missing(t5, "<extra_id_0> {") == ["{"], "and its own letters are not searched for what is missing"


def test_an_answer_ends_with_the_models_stop_tokens_too():
    tokenizer = tiny_tokenizers.byte_level(("<|endoftext|>", "<|im_end|>"))
    text = "so <|im_end|> it goes"
    assert missing(tokenizer, text) is None
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert missing(tokenizer, text, ends=ends) == ["<|im_end|>"]
    assert missing(tokenizer, "bare <|endoftext|>", ends=ends) == ["<|endoftext|>"]


@pytest.mark.parametrize("text", ['{"a":\n\t"b"}', "北京 🙂", "a  b", "½", "cafe\N{COMBINING ACUTE ACCENT}", "x\r\ny"])
def test_bytes_lose_nothing(text):
    for tokenizer in (tiny_tokenizers.byte_level(), ByT5Tokenizer()):
        assert missing(tokenizer, text) is None


def test_a_tokenizer_that_lower_cases_lacks_capitals_and_spaces_it_puts_in_are_only_spaces():
    tokenizer = tiny_tokenizers.lower_case()
    assert missing(tokenizer, "so it is") is None
    assert missing(tokenizer, "So it is") == ["S"]
    assert missing(tokenizer, "don't") == [" "]
    assert missing(tokenizer, "it is {") == ["{"]


def test_a_tokenizer_in_python_is_measured_like_another(tmp_path):
    tokenizer = tiny_tokenizers.slow(tmp_path)
    assert missing(tokenizer, "the order") is None
    assert missing(tokenizer, "the {order}") == ["{", "}"]


def test_what_a_tokenizer_puts_around_a_text_is_not_missing_though_it_is_not_called_special(t5):
    class Framed(type(t5)):
        def __call__(self, text=None, text_target=None, **options):
            found = super().__call__(text=text, text_target=text_target, **options)
            language, own = self.convert_tokens_to_ids("the") or 3, found.input_ids
            found["input_ids"] = [language, *own] if not own or isinstance(own[0], int) else [[language, *ids] for ids in own]
            return found

    framed = Framed.from_pretrained(t5.name_or_path, extra_ids=20)
    assert missing(framed, "12 or 13") is None


def test_each_side_of_an_example_has_what_it_lacks_as_json(t5):
    batch = {"prompt": ["a {", "b", "c  d"], "ground_truth": ["x", "{}\n", "y"]}

    def encode(batch):
        return {"source_ids": t5(batch["prompt"]).input_ids, "target_ids": t5(text_target=batch["ground_truth"]).input_ids}

    found = add_missing(batch, encode, RoundTrip(t5))
    assert found["missing_in_input"] == ['["{"]', "", '[" ", "  "]']
    assert found["missing_in_answer"] == ["", '["\\n", "{", "}"]', ""]
    assert found["source_ids"] == encode(batch)["source_ids"]


def test_of_a_chat_what_the_assistant_says_is_the_answer_and_all_else_the_input(t5):
    asked = {"role": "user", "content": [{"type": "text", "text": "a <b>"}]}
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "1 {"}}}
    answer = {"role": "assistant", "content": "so", "tool_calls": [call]}
    again = {"role": "assistant", "content": "a  b"}
    chats = [Chat([asked, answer], None).dump(), Chat([asked, again], None).dump()]
    batch = {"messages": chats, "row": ["row 1", "row 2"]}
    found = add_missing(batch, lambda _: {"row": ["row 1", "row 2", "row 2"]}, RoundTrip(t5))
    assert found["missing_in_input"] == ['["<", ">"]'] * 3
    assert found["missing_in_answer"] == ['["{"]', '[" ", "  "]', '[" ", "  "]'], "a chat of two rows has two"


def test_the_texts_of_a_message_are_found_wherever_they_are_but_not_its_role():
    message = {
        "role": "assistant",
        "content": None,
        "weight": 0,
        "parts": [{"type": "text", "text": "a"}, "b"],
        "more": {"x": ["c"]},
    }
    assert list(texts_in(message)) == ["a", "b", "c"]


def test_the_embedded_base_lacks_nothing_of_its_demo():
    from job.config.inputs import DEMO_FOLDER

    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER / "base")
    assert missing(tokenizer, '{"date": "2027-03-14 16:30"} <a> [b] \\ ~', is_answer=False) is None
