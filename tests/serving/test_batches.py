"""The line before the model: its order, its limits, and who is told when something goes wrong."""

import threading

import pytest

from job.errors import OutOfMemory
from job.serving.batches import Answer, Batches, Question, QueueFull


class Model:
    """Answers with the prompt's sum; the first batch waits until it is let go."""

    def __init__(self):
        self.batches, self.may_go, self.has_begun = [], threading.Event(), threading.Event()

    def answer(self, questions):
        self.has_begun.set()
        assert self.may_go.wait(10)
        self.batches.append([(question.prompt[0], question.of_base) for question in questions])
        if any(question.prompt[0] < 0 for question in questions):
            raise OutOfMemory("one row does not fit")
        return [Answer(str(sum(question.prompt)), [], True) for question in questions]


@pytest.fixture
def model():
    return Model()


def begin(model, batch_size=4, room=8):
    """A line whose model is busy with the prompt [0]."""
    batches = Batches(model.answer, batch_size, room)
    batches.ask([Question([0], 1)])
    assert model.has_begun.wait(10)
    return batches


def test_all_that_waits_for_one_side_is_answered_together_up_to_a_batch(model):
    batches = begin(model)
    questions = [Question([number, 1], 1) for number in range(1, 6)]
    batches.ask(questions)
    model.may_go.set()
    assert [question.answer.result(10).text for question in questions] == ["2", "3", "4", "5", "6"]
    assert [[number for number, _ in batch] for batch in model.batches] == [[0], [1, 2, 3, 4], [5]]


def test_a_batch_is_of_one_side_and_the_oldest_question_decides_which(model):
    batches = begin(model)
    questions = [Question([number], 1, of_base=number in (1, 3)) for number in range(1, 5)]
    batches.ask(questions)
    model.may_go.set()
    for question in questions:
        question.answer.result(10)
    assert model.batches[1:] == [[(1, True), (3, True)], [(2, False), (4, False)]]


def test_where_not_all_find_room_none_waits(model):
    batches = begin(model, room=3)
    batches.ask([Question([1], 1), Question([2], 1)])
    with pytest.raises(QueueFull):
        batches.ask([Question([3], 1), Question([4], 1)])
    assert batches.waiting == 2
    batches.ask([Question([5], 1)])
    model.may_go.set()


def test_tables_take_no_room_from_others_who_are_answered_between_two_batches_of_them(model):
    batches = begin(model, batch_size=4, room=3)
    first, second = ([Question([number], 1, patient=True) for number in range(start, start + 4)] for start in (11, 21))
    batches.ask_patiently(first)  # more than there is room for
    patient = threading.Thread(target=batches.ask_patiently, args=(second,))
    patient.start()
    patient.join(0.05)
    assert patient.is_alive()
    batches.ask([Question([number], 1) for number in (1, 2, 3)])
    with pytest.raises(QueueFull, match=r"^3$"):
        batches.ask([Question([4], 1)])
    model.may_go.set()
    assert [question.answer.result(10).text for question in second] == ["21", "22", "23", "24"]
    patient.join(10)
    asked = [number for batch in model.batches for number, _ in batch]
    assert asked == [0, 11, 12, 13, 14, 1, 2, 3, 21, 22, 23, 24]


def test_a_question_that_nobody_waits_for_any_more_is_not_asked(model):
    batches = begin(model)
    gone, other = Question([1], 1), Question([2], 1)
    batches.ask([gone, other])
    gone.answer.cancel()
    model.may_go.set()
    other.answer.result(10)
    assert model.batches[1:] == [[(2, False)]]


def test_a_batch_that_fails_tells_its_own_and_the_next_one_is_answered(model):
    batches = begin(model)
    bad, good = Question([-1], 1), Question([2], 1, of_base=True)
    batches.ask([bad, good])
    model.may_go.set()
    with pytest.raises(OutOfMemory):
        bad.answer.result(10)
    assert good.answer.result(10).text == "2"
    assert batches.is_alive
