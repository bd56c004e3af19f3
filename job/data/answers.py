"""The answers to a table so far, a line of JSON a row, beside the table that they will stand in."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from job.errors import OutputError
from job.system.durable import flush_to_disk
from job.system.file_system import MEANINGS, NO_ROOM
from job.system.lock import take

log = logging.getLogger(__name__)

FINGERPRINT, ROW = "fingerprint", "row"


class AnswerFile:
    """Keeps the answer to each row, on the disk after each `add`; one process at a time has it."""

    def __init__(self, table: Path) -> None:
        """table: where the answers will go."""
        self.table, self.path = table, table.parent / f"{table.name}.partial.jsonl"
        self.known: dict[int, dict] = {}
        """Row -> its further columns."""

    def __enter__(self) -> Self:
        """Raises OutputError where another process answers into the same table; the kernel lets go of what a dead one held."""
        while True:
            try:
                self._file = self.path.open("a+b")
            except OSError as error:
                if error.errno in (*MEANINGS, *NO_ROOM):
                    raise
                raise OutputError(f"{self.path}: cannot be written: {error.strerror}. Name another place.") from None
            if not take(self._file, self.path.parent):
                self._file.close()
                raise OutputError(f"{self.table}: another predict is writing it. Wait for it, or name another file for these.")
            if os.fstat(self._file.fileno()).st_nlink:
                return self
            self._file.close()  # the other process has just finished, and taken this file away

    def resume(self, fingerprint: str) -> None:
        """Takes the answers that an earlier try left; they are discarded if they depended on anything else.

        fingerprint: of all that the answers depend on.
        """
        lines, whole = self._read_lines()
        if lines and lines[0] == {FINGERPRINT: fingerprint}:
            self._file.truncate(whole)
            self.known = {line.pop(ROW): line for line in lines[1:]}
            log.info("resuming with %d rows answered before: %s", len(self.known), self.path)
            return
        if lines:
            log.warning("%s: discarding %d answers of other rows, settings or weights", self.path, len(lines) - 1)
        self._file.truncate(0)
        self._write([{FINGERPRINT: fingerprint}])

    def add(self, rows: Sequence[int], columns: dict[str, list]) -> None:
        """Keeps the further columns of `rows`."""
        made = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        self._write([{ROW: row} | cells for row, cells in zip(rows, made, strict=True)])
        self.known |= dict(zip(rows, made, strict=True))

    def discard(self) -> None:
        """Takes the file away for good: the answers are where they belong."""
        self.path.unlink()
        flush_to_disk(self.path.parent)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not os.fstat(self._file.fileno()).st_size:
            self.path.unlink(missing_ok=True)  # nothing was answered, now or before
        self._file.close()

    def _write(self, records: Sequence[dict]) -> None:
        self._file.write("".join(json.dumps(record) + "\n" for record in records).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read_lines(self) -> tuple[list[dict], int]:
        """The whole lines, of a file which may end in the middle of one, and their bytes."""
        self._file.seek(0)
        lines, whole = [], 0
        for line in self._file:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
            whole += len(line)
        return lines, whole
