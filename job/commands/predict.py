"""The command `predict`: answers to new rows, made with a trained adapter. A long file that was interrupted is resumed."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from job.config.settings import Settings
from job.data.answers import AnswerFile
from job.evaluation.generate import Ids
from job.pipeline.asked_table import read_asked
from job.pipeline.predictor import Predictor, added_columns
from job.pipeline.run_folder import RunFolder
from job.pipeline.trained_adapter import TrainedAdapter
from job.system.live_view import live_view
from job.tables.destination import choose_destination
from job.tables.parts import ALL
from job.tables.table import Source
from job.training.supervision import HEARTBEAT_EVERY_S

log = logging.getLogger(__name__)

ROWS_BETWEEN_WRITES = 256
"""Rows that are answered between two writes to the disk: what a sudden end may cost."""


def predict(settings: Settings, file: str, output: str | None = None) -> None:
    """Answers the rows of `file` with the run's adapter, with the template and lengths of its training.

    Gives the same file back with further columns, at `output` or in OUTPUT_DIR/RUN_NAME/predictions/. What can fail in writing
    it is tried before the first answer.
    """
    folder = RunFolder.of(settings)
    folder.check_adapter()
    source = Source("FILE", file, settings.sheet, split=ALL)
    wanted = choose_destination(source, output, folder.predictions)
    with AnswerFile(wanted.path) as answers:
        adapter = TrainedAdapter.of(settings)
        asked = read_asked(adapter, source, wanted, added_columns(settings.predict_confidence))
        predictor = Predictor.of(settings, adapter, max(map(len, asked.prompts)))
        _answer_all(predictor, asked.prompts, answers)
        asked.give_back(answers)
    log.info("answered %d rows: %s", len(asked.prompts), asked.destination.path)


def _answer_all(predictor: Predictor, prompts: list[Ids], answers: AnswerFile) -> None:
    """Answers `prompts`, but for those that an earlier try left answers to."""
    answers.resume(predictor.fingerprint(prompts))
    left = [row for row in range(len(prompts)) if row not in answers.known]
    if left:
        model, answered = predictor.load(), 0
        for rows in _by_length(left, prompts):
            shown = replace(predictor, decoding=replace(predictor.decoding, report=_show(answered, len(left))))
            answers.add(rows, shown.answer(model, [prompts[row] for row in rows]))
            answered += len(rows)
        live_view.clear()


def _show(before: int, total: int) -> Callable[[str, int, int], None]:
    """A function that shows how many of `total` rows are answered, `before` of them by now."""
    started = time.monotonic()

    def show(computing: str, done: int, _rows: int) -> None:
        if computing == "generate":
            left_s = (time.monotonic() - started) / done * (total - before - done)
            live_view.show("predict", before + done, total, left_s)

    return show


def _by_length(rows: list[int], prompts: list[Ids]) -> Iterator[list[int]]:
    """Parts of `rows`, the longest prompts first; logs the progress every few seconds where it is not shown."""
    rows = sorted(rows, key=lambda row: len(prompts[row]), reverse=True)
    started = logged = time.monotonic()
    for first in range(0, len(rows), ROWS_BETWEEN_WRITES):
        if first and time.monotonic() - logged >= HEARTBEAT_EVERY_S and not live_view.is_possible:
            logged = time.monotonic()
            per_s = first / (logged - started)
            left = timedelta(seconds=round((len(rows) - first) / per_s))
            log.info("answered %d of %d rows, %.1f rows/s, at most %s left", first, len(rows), per_s, left)
        yield rows[first : first + ROWS_BETWEEN_WRITES]
