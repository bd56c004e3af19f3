"""Answers survive a kill, each as soon as it is added, and never meet other rows or another model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from job.data.answers import AnswerFile

TABLE = Path("answers.csv")
PARTIAL = Path("answers.csv.partial.jsonl")


def test_what_was_added_before_a_kill_is_known_to_the_next_process():
    """The first process ends without leaving the block, as a kill would end it."""
    code = (
        "import os, sys; from pathlib import Path; from job.data.answers import AnswerFile\n"
        "file = AnswerFile(Path('answers.csv'), 'same').__enter__()\n"
        "file.add([2, 0], {'output': ['c', 'a'], 'confidence': [-0.5, -0.25]}); os._exit(1)"
    )
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": root}).returncode == 1
    with AnswerFile(TABLE, "same") as answers:
        assert answers.known == {2: {"output": "c", "confidence": -0.5}, 0: {"output": "a", "confidence": -0.25}}


def test_the_columns_are_in_the_order_of_the_rows_whatever_order_they_were_answered_in():
    with AnswerFile(TABLE, "same") as answers:
        answers.add([3, 1], {"output": ["d", "b"], "confidence": [4.0, 2.0]})
    with AnswerFile(TABLE, "same") as answers:
        answers.add([0, 2], {"output": ["a", "c"], "confidence": [1.0, 3.0]})
        assert answers.columns() == {"output": ["a", "b", "c", "d"], "confidence": [1.0, 2.0, 3.0, 4.0]}


def test_a_line_that_a_kill_cut_off_is_answered_again_and_spoils_none_that_is_added_later():
    with AnswerFile(TABLE, "same") as answers:
        answers.add([0, 1], {"output": ["a", "b"]})
    PARTIAL.write_bytes(PARTIAL.read_bytes()[:-4])
    with AnswerFile(TABLE, "same") as answers:
        assert answers.known == {0: {"output": "a"}}
        answers.add([1], {"output": ["again"]})
    with AnswerFile(TABLE, "same") as answers:
        assert answers.columns() == {"output": ["a", "again"]}


def test_answers_of_another_model_are_discarded_with_a_warning(caplog):
    with AnswerFile(TABLE, "this model") as answers:
        answers.add([0, 1], {"output": ["a", "b"]})
    with AnswerFile(TABLE, "another model") as answers:
        assert answers.known == {}
        assert answers.columns() == {}
    assert "answers.csv.partial.jsonl: discarding 2 answers of other rows, settings or weights" in caplog.text
    with AnswerFile(TABLE, "this model") as answers:
        assert answers.known == {}, "they do not come back either"


@pytest.mark.parametrize("text", ["plain", "two\nlines", 'a "quote"', "\u2028 \x85 你好", "", "\ud83d\ude42"])
def test_a_text_comes_back_as_it_was(text):
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    with AnswerFile(TABLE, "same") as answers:
        answers.add([0], {"output": [text]})
    with AnswerFile(TABLE, "same") as answers:
        assert answers.known == {0: {"output": text}}


def test_each_answer_takes_one_line_behind_the_fingerprint():
    with AnswerFile(TABLE, "same") as answers:
        answers.add([5, 6], {"output": ["a", "b"]})
        lines = PARTIAL.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"fingerprint": "same"}, {"row": 5, "output": "a"}, {"row": 6, "output": "b"}]


def test_columns_of_different_lengths_are_a_bug_and_nothing_of_them_is_kept():
    with AnswerFile(TABLE, "same") as answers, pytest.raises(ValueError, match="zip"):
        answers.add([0, 1], {"output": ["a", "b"], "confidence": [1.0]})
    with AnswerFile(TABLE, "same") as answers:
        assert answers.known == {}
