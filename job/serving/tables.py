"""Tables that a person pastes or uploads, answered by what answers for `predict` and given back the same way."""

import json
import re
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from job.data.answers import AnswerFile
from job.errors import JobError
from job.pipeline.asked_table import AskedTable, read_asked
from job.pipeline.predictor import added_columns
from job.pipeline.trained_adapter import TrainedAdapter
from job.serving.asking import Asking, errors_refused, wait_for
from job.serving.batches import Question
from job.serving.http import Refused, Reply, Request
from job.tables.destination import choose_destination
from job.tables.parts import ALL
from job.tables.table import Source

MOST_BYTES = 64 * 2**20
"""Of a table that is uploaded."""
KEPT = 20
"""Answered tables that can still be fetched; older ones are deleted."""
AT_ONCE = 4
"""Tables that are answered at the same time."""


@dataclass
class Tables:
    """Answers tables, in a folder of its own that goes with the process."""

    asking: Asking
    adapter: TrainedAdapter
    """The same adapter with a tokenizer of its own: a large table is read while others ask."""
    batch_size: int
    sheet: str | None = None
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="lora-job-tables-")))
    _answered: OrderedDict[str, Path] = field(default_factory=OrderedDict)
    _slots: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(AT_ONCE))
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def upload(self, request: Request) -> Reply:
        """POST /api/tables?name=FILE: a line of JSON whenever rows were answered, and at last where to fetch the table."""
        if not self._slots.acquire(blocking=False):
            raise Refused(429, f"{AT_ONCE} tables are being answered. Try again later.", "rate_limit_exceeded", Retry_After="5")
        number = uuid.uuid4().hex
        try:
            asked = self._read(request, self.folder / number)
        except BaseException:
            self._end(number)
            raise
        lines = self._answer(asked, number, request)
        return Reply(lines, "application/x-ndjson; charset=utf-8", finish=lambda: self._end(number))

    def download(self, request: Request) -> Reply:
        """GET /api/tables/NUMBER"""
        path = self._answered.get(request.path.rpartition("/")[2])
        if path is None or not path.exists():
            raise Refused(404, "That table is no longer here. Upload it again.")
        disposition = f"attachment; filename*=UTF-8''{quote(path.name)}"
        return Reply(path.read_bytes(), "application/octet-stream", headers={"Content-Disposition": disposition})

    def close(self) -> None:
        """Deletes all tables."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, request: Request, folder: Path) -> AskedTable:
        """The uploaded table. Raises Refused for one that cannot be answered or given back."""
        name = re.sub(r"[^\w. -]+", "_", Path(request.query.get("name", "")).name).strip(". ")[-100:] or "table.csv"
        (folder / "asked").mkdir(parents=True)
        path = folder / "asked" / name
        path.write_bytes(request.read())
        with errors_refused(f"{folder / 'asked'}/"):
            source = Source("FILE", str(path), self.sheet, split=ALL)
            wanted = choose_destination(source, None, folder / "answered")
            with self._reading:
                return read_asked(self.adapter, source, wanted, added_columns(True))

    def _answer(self, asked: AskedTable, number: str, request: Request) -> Iterator[bytes]:
        """Lines of progress while the rows are answered. A client that goes away ends it."""
        path, total = asked.destination.path, len(asked.prompts)
        try:
            with AnswerFile(path) as answers:
                yield _line({"done": 0, "rows": total})
                for places, columns in self._batches(asked, request):
                    answers.add(places, columns)
                    yield _line({"done": len(answers.known), "rows": total})
                asked.give_back(answers)
        except JobError as error:
            yield _line({"error": str(error)})
            return
        self._answered[number] = path
        while len(self._answered) > KEPT:
            self._forget(self._answered.popitem(last=False)[0])
        yield _line({"fetch": f"/api/tables/{number}", "name": path.name, "columns": asked.columns})

    def _batches(self, asked: AskedTable, request: Request) -> Iterator[tuple[list[int], dict[str, list]]]:
        """Places of prompts and their further columns; a batch at a time, so that others are answered between two."""
        order = sorted(range(len(asked.prompts)), key=lambda place: len(asked.prompts[place]), reverse=True)
        size, most = self.batch_size, self.adapter.record.max_new_tokens
        for first in range(0, len(order), size):
            places = order[first : first + size]
            questions = [Question(asked.prompts[place], most, confidence=True, patient=True) for place in places]
            self.asking.batches.ask_patiently(questions)
            found = [wait_for(question, questions, request) for question in questions]
            cells = [answer.text for answer in found], [answer.confidence for answer in found]
            yield places, dict(zip(added_columns(True), cells, strict=True))

    def _end(self, number: str) -> None:
        """Once a table is answered, or will never be."""
        self._slots.release()
        if number not in self._answered:
            self._forget(number)

    def _forget(self, number: str) -> None:
        shutil.rmtree(self.folder / number, ignore_errors=True)


def _line(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"
