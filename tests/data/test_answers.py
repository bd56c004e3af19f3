"""Answers survive a kill, each as soon as it is added, and never meet other rows or another model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.data.answers import AnswerFile
from job.errors import OutputError

TABLE = Path("answers.csv")
PARTIAL = Path("answers.csv.partial.jsonl")


@contextmanager
def answering(fingerprint: str) -> Iterator[AnswerFile]:
    """The answers to the table, with those that were left of an earlier try."""
    with AnswerFile(TABLE) as answers:
        answers.resume(fingerprint)
        yield answers


def test_what_was_added_before_a_kill_is_known_to_the_next_process():
    """The first process ends without leaving the block, as a kill would end it."""
    code = (
        "import os, sys; from pathlib import Path; from job.data.answers import AnswerFile\n"
        "file = AnswerFile(Path('answers.csv')).__enter__(); file.resume('same')\n"
        "file.add([2, 0], {'output': ['c', 'a'], 'confidence': [-0.5, -0.25]}); os._exit(1)"
    )
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": root}).returncode == 1
    with answering("same") as answers:
        assert answers.known == {2: {"output": "c", "confidence": -0.5}, 0: {"output": "a", "confidence": -0.25}}


def test_a_line_that_a_kill_cut_off_is_answered_again_and_spoils_none_that_is_added_later():
    with answering("same") as answers:
        answers.add([0, 1], {"output": ["a", "b"]})
    PARTIAL.write_bytes(PARTIAL.read_bytes()[:-4])
    with answering("same") as answers:
        assert answers.known == {0: {"output": "a"}}
        answers.add([1], {"output": ["again"]})
    with answering("same") as answers:
        assert answers.known == {0: {"output": "a"}, 1: {"output": "again"}}


def test_answers_of_another_model_are_discarded_with_a_warning(caplog):
    with answering("this model") as answers:
        answers.add([0, 1], {"output": ["a", "b"]})
    with answering("another model") as answers:
        assert answers.known == {}
    assert "answers.csv.partial.jsonl: discarding 2 answers of other rows, settings or weights" in caplog.text
    with answering("this model") as answers:
        assert answers.known == {}, "they do not come back either"


@pytest.mark.parametrize("text", ["plain", "two\nlines", 'a "quote"', "\u2028 \x85 你好", "", "\ud83d\ude42"])
def test_a_text_comes_back_as_it_was(text):
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    with answering("same") as answers:
        answers.add([0], {"output": [text]})
    with answering("same") as answers:
        assert answers.known == {0: {"output": text}}


def test_each_answer_takes_one_line_behind_the_fingerprint():
    with answering("same") as answers:
        answers.add([5, 6], {"output": ["a", "b"]})
        lines = PARTIAL.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"fingerprint": "same"}, {"row": 5, "output": "a"}, {"row": 6, "output": "b"}]


def test_columns_of_different_lengths_are_a_bug_and_nothing_of_them_is_kept():
    with answering("same") as answers, pytest.raises(ValueError, match="zip"):
        answers.add([0, 1], {"output": ["a", "b"], "confidence": [1.0]})
    with answering("same") as answers:
        assert answers.known == {}


def test_a_second_process_that_answers_into_the_same_table_is_told_and_leaves_the_answers_alone():
    with answering("same") as answers:
        answers.add([0], {"output": ["a"]})
        code = "from pathlib import Path; from job.data.answers import AnswerFile\nAnswerFile(Path('answers.csv')).__enter__()"
        root = str(Path(__file__).parents[2])
        other = subprocess.run(
            [sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True
        )
        assert "OutputError: answers.csv: another predict is writing it. Wait for it, or name another file" in other.stderr
    with answering("same") as answers:
        assert answers.known == {0: {"output": "a"}}


def test_a_process_that_came_too_late_gets_a_file_of_its_own():
    """It waited for nothing: the first one finished between its opening of the file and its locking it."""
    real, calls = os.fstat, []

    def taken_away(descriptor):
        if not calls:
            calls.append(PARTIAL.unlink())
        return real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fstat", taken_away)
        with answering("same") as answers:
            answers.add([0], {"output": ["a"]})
    assert len(PARTIAL.read_text().splitlines()) == 2


def test_nothing_is_left_where_nothing_was_answered_and_what_was_left_before_stays():
    with AnswerFile(TABLE):
        assert PARTIAL.exists()
    assert not PARTIAL.exists()
    with answering("same") as answers:
        answers.add([0], {"output": ["a"]})
    with AnswerFile(TABLE):
        pass
    assert len(PARTIAL.read_text().splitlines()) == 2


def test_answers_that_are_where_they_belong_are_taken_away():
    with answering("same") as answers:
        answers.discard()
    assert not PARTIAL.exists()


def test_a_place_that_cannot_be_written_is_told():
    with pytest.raises(OutputError, match=r"x\.partial\.jsonl: cannot be written: File name too long\. Name another place\."):
        AnswerFile(Path("x" * 250)).__enter__()
