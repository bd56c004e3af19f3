"""Counts of contradictions, repetitions and labels, against numbers worked out by hand and by a plain count of all pairs."""

import time
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from job.data.look import Found, Label
from job.data.row_counts import answer_starts, count_answers, count_part, find_shared, hash_normalised, normalise


def make_rows(pairs: list[tuple[str, str]], named: bool = True) -> Dataset:
    """Rows as an encoder-decoder's are prepared: a token a letter."""
    columns = {
        "input": [question for question, _ in pairs],
        "ground_truth": [answer for _, answer in pairs],
        "input_ids": [[ord(letter) for letter in question] for question, _ in pairs],
        "labels": [[ord(letter) for letter in answer] for _, answer in pairs],
    }
    if named:
        columns["row"] = [f"row {number}" for number in range(2, len(pairs) + 2)]
    return Dataset.from_dict(columns)


PAIRS = [("ab", "x"), ("cd", "y"), ("ab", "z"), ("cd", "y "), ("ab", "x"), ("e", "..."), ("ab", "z"), ("ab", "w")]


def test_contradictions_repetitions_and_what_can_be_reached_are_those_counted_by_hand():
    counts, _ = count_part(make_rows(PAIRS), seq2seq=True)
    assert counts.rows == 8
    assert counts.contradictory == Found(5, ("row 2", "x", "row 4", "z")), "five rows ask ab"
    assert counts.reachable == 2 + 2 + 1, "x or z twice, y twice, once ..."
    assert counts.repeated == Found(3, ("row 5", "row 3")), "white space around an answer does not count"
    assert counts.short_inputs == Found(8, ("row 2",))
    assert counts.wordless_answers == Found(1, ("row 7",))


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_of_many_rows_are_those_of_a_count_of_all_pairs(seed):
    generator = np.random.default_rng(seed)
    pairs = [(f"q{generator.integers(60)}", f"a{generator.integers(3)}") for _ in range(200)]
    counts, _ = count_part(make_rows(pairs), seq2seq=True)
    by_input = {question: Counter(answer for one, answer in pairs if one == question) for question, _ in pairs}
    assert counts.contradictory.rows == sum(sum(answers.values()) for answers in by_input.values() if len(answers) > 1)
    assert counts.reachable == sum(max(answers.values()) for answers in by_input.values())
    assert counts.repeated.rows == 200 - len(set(pairs))
    first = next(place for place, pair in enumerate(pairs) if pair in pairs[:place])
    assert counts.repeated.first == (f"row {first + 2}", f"row {pairs.index(pairs[first]) + 2}")


def test_rows_without_names_are_counted_from_1():
    counts, _ = count_part(make_rows(PAIRS, named=False), seq2seq=True)
    assert counts.contradictory.first == ("row 1", "x", "row 3", "z")


def test_of_one_sequence_the_input_is_all_before_the_last_answer():
    rows = {
        "input": ["a"] * 3,
        "ground_truth": ["7 8", "9", "7"],
        "input_ids": [[5, 6, 7, 8], [5, 6, 9, 0], [5, 6, 7, 7]],
        "labels": [[-100, -100, 7, 8], [-100, -100, 9, -100], [-100, 6, -100, 7]],
    }
    counts, _ = count_part(Dataset.from_dict(rows), seq2seq=False)
    assert counts.contradictory == Found(2, ("row 1", "7 8", "row 2", "9"))
    labels = np.array([-100, 1, 1, -100, -100, 2, -100, 3, -100])
    assert answer_starts(labels, np.array([0, 3, 4, 9])).tolist() == [1, 4, 7]
    assert answer_starts(np.array([-100, 3, 4, -100]), np.array([0, 2, 4])).tolist() == [1, 2], "a label behind a label of before"


def answers_of(training: list[tuple[str, str]], held_out: list[tuple[str, str]]):
    parts = [make_rows(training), make_rows(held_out)]
    return count_answers(*((part, count_part(part, seq2seq=True)[1]) for part in parts))


def test_labels_are_the_answers_that_are_few_and_frequent():
    training = [(f"q{number}", "yes" if number % 3 else "no") for number in range(30)]
    answers = answers_of(training, [("p1", "yes"), ("p2", "maybe"), ("p3", "yes")])
    assert (answers.different, answers.frequent) == (2, (Label("yes", 20, 2), Label("no", 10, 0)))
    assert answers.unseen == Found(1, ("row 3", "maybe"))
    assert answers.alike == ()


def test_only_the_ten_most_frequent_labels_are_kept():
    training = [(f"q{number}", f"label {number % 12}") for number in range(60)] + [("q", "label 11")]
    answers = answers_of(training, [("p", "label 3")])
    assert answers.different == 12
    assert [label.text for label in answers.frequent] == ["label 11", *(f"label {number}" for number in range(9))]


def test_answers_that_are_all_different_are_no_labels():
    training = [(f"q{number}", f"a{number}") for number in range(30)]
    answers = answers_of(training, [("p", "b")])
    assert (answers.different, answers.frequent, answers.unseen) == (30, (), Found())


def test_one_answer_that_most_rows_have_is_shown_among_any_number():
    training = [(f"q{number}", "none" if number < 25 else f"a{number}") for number in range(100)]
    assert answers_of(training, [("p", "none")]).frequent == (Label("none", 25, 1),)


def test_labels_that_differ_in_spelling_alone_are_found():
    training = [(f"q{number}", ("Yes", "yes.", "no")[number % 3]) for number in range(30)]
    assert answers_of(training, [("p", "no")]).alike == (("Yes", "yes."),)
    signs = [(f"q{number}", "?!"[number % 2]) for number in range(30)]
    assert answers_of(signs, [("p", "?")]).alike == (), "labels of marks alone are no spellings of each other"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  3.5?", "what is 3.5"),
        ("Straße,\n5", "STRASSE 5"),
        ("«Où»", "où"),
        ("e\u0301te\u0301", "été"),
        ("नमस्ते।", "नमस्ते"),
    ],
)
def test_what_makes_no_other_question_is_left_out(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"), [("3.5", "35"), ("3 + 4", "3 - 4"), ("3*4", "3/4"), ("कि", "की"), ("x²", "x2"), (":1", "1")]
)
def test_what_makes_another_question_is_kept(one, other):
    assert normalise(one) != normalise(other)


def test_held_out_rows_that_are_nearly_training_rows_are_counted_once_each():
    training, held_out = (
        make_rows([("Hello!", "a"), ("cut", "b")]),
        make_rows([("new", "a"), ("hello", "a"), ("cut", "b"), ("x", "b")]),
    )
    texts = [(part, hash_normalised(part["input"], len(part))) for part in (training, held_out)]
    tokens = [(part, count_part(part, seq2seq=True)[1].inputs) for part in (training, held_out)]
    assert find_shared([(texts[0], texts[1])]) == Found(2, ("row 3", "row 2"))
    assert find_shared([(tokens[0], tokens[1])]) == Found(1, ("row 4", "row 3"))
    assert find_shared([(tokens[0], tokens[1]), (texts[0], texts[1])]).rows == 2
    assert find_shared([(texts[1], (make_rows([("y", "")]), hash_normalised(["y"], 1)))]) == Found()


@pytest.mark.slow
def test_two_hundred_thousand_rows_are_counted_in_seconds_at_a_few_bytes_a_row():
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "eats", "some", "cheese"]
    texts = [" ".join(words[(number >> shift) % 13] for shift in range(20)) + str(number) for number in range(200_000)]
    rows = make_rows([(text, text[:3]) for text in texts])
    started = time.perf_counter()
    counts, hashes = count_part(rows, seq2seq=True)
    hash_normalised(rows["input"], len(rows))
    assert time.perf_counter() - started < 20
    assert counts.reachable == len(rows)
    assert hashes.inputs.nbytes + hashes.answers.nbytes == 16 * len(rows)
