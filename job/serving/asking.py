"""Rows and chats that a person or a program sends, as prompts that the adapter was trained to read, and their answers."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass, field
from typing import Any

from job.data.empty_rows import is_empty
from job.data.template import Template
from job.data.token_range import check_prompts
from job.errors import JobError
from job.evaluation.generate import Ids
from job.model.load import embeddings
from job.pipeline.trained_adapter import TrainedAdapter
from job.serving.batches import Answer, Batches, Question, QueueFull
from job.serving.http import Refused, Request
from job.tables.cell_text import shown
from job.tables.read import in_memory
from job.tables.table import Source, Table

LOOK_EVERY_S = 0.5
"""Seconds between two looks at whether a client still waits."""


@dataclass(frozen=True)
class Asking:
    """A run's adapter and the line before its model."""

    adapter: TrainedAdapter
    batches: Batches
    reading: threading.Lock = field(default_factory=threading.Lock)
    """Tokenizers are not made for several threads."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that a prompt is made of."""
        record = self.adapter.record
        if record.chat:
            return (record.input_column,)
        return Template(record.prompt_template, record.input_column).columns or (record.input_column,)

    def read_rows(self, rows: Sequence[dict[str, Any]]) -> list[Ids]:
        """The prompts of rows that have the same columns. Raises Refused for what cannot be asked."""
        empty = [number for number, row in enumerate(rows, 1) if all(map(is_empty, map(shown, row.values())))]
        if empty:
            raise Refused(400, f"prompt {empty[0]} is empty.", "invalid_prompt", "prompt")
        cells, kept_as_json = in_memory({name: [row[name] for row in rows] for name in rows[0]})
        table = Table(Source("prompt", "request"), cells, kept_as_json=kept_as_json)
        with self.reading, errors_refused():
            asked, prompts = self.adapter.prompts(table)
        if len(asked) < len(rows):
            raise Refused(400, f"prompt {min(set(range(len(rows))) - set(asked)) + 1} is empty.", "invalid_prompt")
        return self.read_ids(prompts)

    def read_ids(self, prompts: list[Ids]) -> list[Ids]:
        """`prompts`. Raises Refused for one that is longer than the adapter reads, or has tokens that the model lacks."""
        limit, longest = self.adapter.limit, max(map(len, prompts))
        if limit is not None and longest > limit:
            message = f"An input of {longest} tokens: this adapter reads {limit}."
            raise Refused(400, message, "context_length_exceeded", "prompt")
        names = [f"prompt {number}" for number in range(1, len(prompts) + 1)]
        with errors_refused():
            check_prompts(prompts, names, self.adapter.tokenizer, embeddings(self.adapter.config))
        return prompts

    def answers(self, questions: Sequence[Question], request: Request) -> list[Answer]:
        """The answers to `questions`; they leave the line where the client goes away.

        Raises Refused where more are asked than ever may wait, or too many wait now, ConnectionError where nobody waits any more.
        """
        room = self.batches.room
        if len(questions) > room:
            message = f"{len(questions)} prompts in one request: at most SERVE_QUEUE={room} may wait. Send fewer at once."
            raise Refused(400, message, "too_many_prompts", "prompt")
        try:
            self.batches.ask(questions)
        except QueueFull as full:
            message = f"{full} of SERVE_QUEUE={room} questions wait already. Ask again later."
            raise Refused(429, message, "rate_limit_exceeded", Retry_After="1") from None
        return [wait_for(question, questions, request) for question in questions]


@contextlib.contextmanager
def errors_refused(hidden: str = "") -> Iterator[None]:
    """Turns what a person can act on into Refused: it was the request that caused it. hidden: a path that is none of theirs."""
    try:
        yield
    except JobError as error:
        raise Refused(400, str(error).replace(hidden, ""), "invalid_prompt") from None


def wait_for(question: Question, others: Sequence[Question], request: Request) -> Answer:
    """The answer to `question`. Where the client is gone, the `others` are asked no more, and ConnectionError is raised."""
    while True:
        with contextlib.suppress(StillWaiting):
            return question.answer.result(LOOK_EVERY_S)
        if request.is_gone():
            for other in others:
                other.answer.cancel()
            raise ConnectionError("the client is gone")
