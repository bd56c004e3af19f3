"""The baseline needs no model: the most frequent answer, or the input's first sentence where answers are texts."""

import pytest
from datasets import Dataset

from job.evaluation.baseline import SHORT_LETTERS, SHORT_WORDS, are_short, baseline_outputs, most_frequent_answer


def test_the_baseline_answer_is_the_most_frequent_one_or_the_first_sentence(tokenizer):
    train = Dataset.from_dict({"ground_truth": ["no", "yes", "yes", "no", "yes"]})
    assert baseline_outputs(["a", "b"], ["yes", "no"], train, tokenizer) == ["yes", "yes"]
    long = ["one two three four five six seven"] * 2
    assert baseline_outputs(["First one. Second.", "No end"], long, train, tokenizer) == ["First one.", "No end"]
    summary = ["\u4e00" * 300] * 2  # Chinese has no spaces
    assert baseline_outputs(["\u4e8c\u3002 \u4e09"], summary, train, tokenizer) == ["\u4e8c\u3002"]
    prompts = [[-100] * length + tokenizer(text).input_ids for length, text in ((1, "no"), (2, "no"), (3, "yes"))]
    assert most_frequent_answer(Dataset.from_dict({"labels": prompts}), tokenizer) == "no"
    ids = [tokenizer(text).input_ids for text in ("yes", "no", "no")]
    assert most_frequent_answer(Dataset.from_dict({"labels": ids}), tokenizer) == "no"


def test_answers_are_short_up_to_five_words_and_sixty_letters_in_the_median():
    assert (SHORT_WORDS, SHORT_LETTERS) == (5, 60)
    assert are_short(["a b c d e"])
    assert not are_short(["a b c d e f"])
    assert are_short(["x" * 60])
    assert not are_short(["x" * 61])
    assert are_short(["yes", "no", "a long text that is no value at all"])
    assert not are_short(["yes", "a text of six words here", "a long text that is no value at all"])
    assert are_short(["a b c d", "a b c d e f"]), "five words in the median of two"


def test_of_answers_that_are_as_frequent_the_first_is_taken(tokenizer):
    train = Dataset.from_dict({"ground_truth": ["c", "a", "b", "b", "a"]})
    assert most_frequent_answer(train, tokenizer) == "a"


def test_the_most_frequent_answer_is_counted_over_all_batches(tokenizer, monkeypatch):
    monkeypatch.setattr("job.evaluation.baseline.ROWS_AT_ONCE", 2)
    train = Dataset.from_dict({"ground_truth": ["a", "a", "b", "c", "b", "b"]})
    assert most_frequent_answer(train, tokenizer) == "b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("  Who? Me. ", "Who?"),
        ("Stop! Go", "Stop!"),
        ("Version 1.2 is out. Get it.", "Version 1.2 is out."),
        ("One line\nwithout an end", "One line\nwithout an end"),
        ("First.\nSecond.", "First."),
        ("", ""),
    ],
)
def test_a_sentence_ends_with_its_mark_and_white_space(tokenizer, text, sentence):
    truths = ["one two three four five six seven"]
    assert baseline_outputs([text], truths, Dataset.from_dict({"ground_truth": ["x"]}), tokenizer) == [sentence]
