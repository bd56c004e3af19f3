"""What is said of a tokenizer's gaps, and when they stop a run."""

import json
from dataclasses import asdict, replace

import pytest
from datasets import Dataset

from job.data.round_trip import COLUMNS
from job.data.unknown_text import UnknownPart, UnknownText, count_unknown, list_characters
from job.errors import DataError

FOUND = UnknownText(
    inputs=(UnknownPart(80, 3, 0, {"<": 3}, "row 9"), UnknownPart(20, 0)),
    answers=(UnknownPart(80, 40, 5, {"{": 40, "\n": 12, "  ": 5}, "row 2"), UnknownPart(20, 10, 1, {"{": 10, "}": 11}, "row 7")),
)


def rows(inputs: list, answers: list) -> Dataset:
    sides = [["" if row is None else json.dumps(row) for row in side] for side in (inputs, answers)]
    return Dataset.from_dict(
        {"row": [f"row {number}" for number in range(2, 2 + len(inputs))]} | dict(zip(COLUMNS, sides, strict=True))
    )


def test_rows_are_counted_by_what_they_lack():
    train = rows([None, None, ["<"], None], [["\n", "{"], [" ", "  "], None, ["{"]])
    found = count_unknown([train, rows([None], [[]])], ("}",))
    assert found.inputs == (UnknownPart(4, 1, 0, {"<": 1}, "row 4"), UnknownPart(1, 0))
    assert found.answers == (UnknownPart(4, 2, 1, {"{": 2, "\n": 1, "  ": 1}, "row 2"), UnknownPart(1, 1, 0, {}, "row 2"))
    assert found.added == ("}",)


def test_the_first_row_is_found_beyond_the_first_batch(monkeypatch):
    from job.data import unknown_text

    monkeypatch.setattr(unknown_text, "ROWS_AT_ONCE", 2)
    part = rows([None] * 5, [None, None, [" "], ["{"], ["}"]])
    assert count_unknown([part, part], ()).answers[0] == UnknownPart(5, 2, 1, {"{": 1, "}": 1}, "row 5")


def test_one_line_is_said_of_the_inputs_and_one_of_the_answers():
    assert FOUND.warnings("none") == [
        '3 of 80 training and 0 of 20 held-out inputs hold what the model\'s tokenizer lacks: "<"; the first is row 9. '
        "If they matter, name them in ADD_TOKENS, or choose a model that reads bytes, such as google/byt5-base.",
        "40 of 80 training and 10 of 20 held-out answers hold what the model's tokenizer lacks: "
        '"{", line break, "}", two spaces in a row; the first is row 2; in 6 more only spaces change. '
        "Set ADD_TOKENS=auto, which teaches the model to write them, or "
        "choose a model that reads bytes, such as google/byt5-base.",
    ]


def test_nothing_is_said_where_nothing_is_missing_or_nothing_is_known():
    for found in (UnknownText(), UnknownText((UnknownPart(9, 0),) * 2, (UnknownPart(9, 0),) * 2)):
        assert (found.warnings("none"), found.describe_added()) == ([], "")
        found.check(0, "none")


def test_spaces_alone_are_told_and_stop_nothing():
    found = UnknownText((), (UnknownPart(9, 0, 9, {"  ": 9}), UnknownPart(1, 0)))
    assert found.warnings("none") == ["In 9 of 10 answers the tokenizer changes the number of spaces, and nothing else."]
    found.check(0, "none")


def test_more_lossy_answers_than_allowed_stop_the_run_and_as_many_do_not():
    FOUND.check(0.5, "none")
    with pytest.raises(DataError) as error:
        FOUND.check(0.49, "none")
    assert str(error.value) == (
        'TRAIN_DATA: 40 of 80 answers (50.0%) hold what the model\'s tokenizer lacks, and the model can never write: "{", line '
        "break, two spaces in a row; the first is row 2. MAX_UNKNOWN_TARGETS allows 49.0%. Set ADD_TOKENS=auto, which teaches the "
        "model to write them, or choose a model that reads bytes, such as google/byt5-base, or raise MAX_UNKNOWN_TARGETS."
    )


def test_held_out_answers_and_inputs_stop_nothing():
    lossless = UnknownPart(80, 0)
    replace(FOUND, answers=(lossless, FOUND.answers[1])).check(0, "none")


def test_what_is_set_already_is_not_advised():
    assert "ADD_TOKENS" not in UnknownText((), FOUND.answers).warnings("auto")[0]


def test_a_stop_token_in_an_answer_is_to_be_taken_out_of_it():
    found = UnknownText((), (UnknownPart(9, 1, 0, {"</s>": 1}, "row 2"), UnknownPart(1, 0)))
    assert found.warnings("none")[0].endswith('lacks: "</s>"; the first is row 2. Take "</s>" out of the answers, which end there.')
    both = replace(found, answers=(replace(found.answers[0], characters={"{": 1, "</s>": 1}), found.answers[1]))
    assert 'Take "</s>" out of the answers, which end there, or set ADD_TOKENS=auto' in both.warnings("none")[0]


def test_capitals_that_a_tokenizer_does_not_write_are_to_be_small():
    found = UnknownText((), (UnknownPart(9, 1, 0, {"S": 1, "T": 1}, "row 2"), UnknownPart(1, 0)))
    assert "Write the answers in small letters, as the tokenizer does, or choose a model" in found.warnings("none")[0]
    assert "ADD_TOKENS" not in found.warnings("none")[0]


def test_what_was_added_is_told_and_that_the_base_does_not_know_it():
    said = replace(UnknownText(), added=("{", "\n")).describe_added()
    assert '"{", line break' in said
    assert "The base model is asked with the same tokenizer, but has never learned them." in said


def test_characters_that_cannot_be_seen_are_named_and_no_more_than_a_dozen_shown():
    assert list_characters(['"', "\N{COMBINING ACUTE ACCENT}", "\N{NO-BREAK SPACE}", "\x00", "北"]) == (
        '\'"\', U+0301 COMBINING ACUTE ACCENT, U+00A0 NO-BREAK SPACE, U+0000, "北"'
    )
    assert list_characters(map(chr, range(0x5000, 0x5000 + 14))).endswith(" and 2 more")
    assert list_characters([]) == "a combination of characters"


def test_what_is_kept_as_json_is_read_again_and_an_old_summary_says_nothing():
    assert UnknownText.from_dict(json.loads(json.dumps(asdict(FOUND)))) == FOUND
    assert UnknownText.from_dict({}) == UnknownText()
