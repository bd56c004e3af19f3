"""Questions that wait for the model, answered in batches by the one thread that has it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from job.errors import JobError
from job.evaluation.generate import Ids

log = logging.getLogger(__name__)


class QueueFull(Exception):
    """As many questions wait as may; it says how many."""


@dataclass(frozen=True)
class Answer:
    """What the model says."""

    text: str
    ids: Ids
    ended: bool
    """Whether the model ended it; else it is as long as it may be."""
    confidence: float | None = None
    """Mean log-probability of its tokens, where it was asked for."""


@dataclass(frozen=True)
class Question:
    """A prompt for one side, and where its answer will be."""

    prompt: Ids
    max_new_tokens: int
    of_base: bool = False
    """Whether the base alone is asked."""
    confidence: bool = False
    patient: bool = False
    """Of a table: it waits for its turn to get in line, and takes no room there from others."""
    answer: Future[Answer] = field(default_factory=Future)


class Batches:
    """Answers questions in the order they came in, with each all that wait for the same side, up to a batch."""

    def __init__(self, answer: Callable[[Sequence[Question]], list[Answer]], batch_size: int, room: int) -> None:
        """answer: of questions of one side; called by one thread alone. room: questions that may wait, patient ones aside."""
        self._answer, self._batch_size, self.room = answer, batch_size, room
        self._waiting: deque[Question] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether somebody answers."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._waiting)

    def ask(self, questions: Sequence[Question]) -> None:
        """Puts `questions` in line, all or none. Raises QueueFull if they do not fit."""
        with self._changed:
            waiting = sum(not question.patient for question in self._waiting)
            if waiting + len(questions) > self.room:
                raise QueueFull(waiting)
            self._put(questions)

    def ask_patiently(self, questions: Sequence[Question]) -> None:
        """Puts patient `questions` in line once no other patient ones are in it: before others stand those of one table at most."""
        with self._changed:
            self._changed.wait_for(lambda: not any(question.patient for question in self._waiting))
            self._put(questions)

    def _put(self, questions: Sequence[Question]) -> None:
        self._waiting.extend(questions)
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            batch = [question for question in self._take() if question.answer.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                answers = self._answer(batch)
            except Exception as error:
                if not isinstance(error, JobError):
                    log.exception("%d questions could not be answered", len(batch))
                for question in batch:
                    question.answer.set_exception(error)
                continue
            for question, answer in zip(batch, answers, strict=True):
                question.answer.set_result(answer)

    def _take(self) -> list[Question]:
        """The oldest questions of one side; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            side = self._waiting[0].of_base
            taken = [question for question in self._waiting if question.of_base == side][: self._batch_size]
            chosen = set(map(id, taken))
            self._waiting = deque(question for question in self._waiting if id(question) not in chosen)
            self._changed.notify_all()
        return taken
