"""The answers to a table so far, a line of JSON a row, beside the table that they will stand in."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from job.system.durable import write_text

log = logging.getLogger(__name__)

FINGERPRINT, ROW = "fingerprint", "row"


class AnswerFile:
    """Keeps the answer to each row, on the disk after each `add`. Answers to other rows or of another model are discarded."""

    def __init__(self, table: Path, fingerprint: str) -> None:
        """table: where the answers will go. fingerprint: of all that they depend on."""
        self.path = table.with_name(f"{table.name}.partial.jsonl")
        self.known: dict[int, dict] = {}
        """Row -> its further columns."""
        self._fingerprint = fingerprint

    def __enter__(self) -> Self:
        kept = _read_lines(self.path)
        if kept and kept[0] == {FINGERPRINT: self._fingerprint}:
            self.known = {line.pop(ROW): line for line in kept[1:]}
            log.info("resuming with %d rows answered before: %s", len(self.known), self.path)
        elif kept:
            log.warning("%s: discarding %d answers of other rows, settings or weights", self.path, len(kept) - 1)
        lines = [{FINGERPRINT: self._fingerprint}, *({ROW: row} | columns for row, columns in self.known.items())]
        write_text(self.path, _as_lines(lines))
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def add(self, rows: Sequence[int], columns: dict[str, list]) -> None:
        """Keeps the further columns of `rows`."""
        made = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        self.known |= dict(zip(rows, made, strict=True))
        self._file.write(_as_lines([{ROW: row} | cells for row, cells in zip(rows, made, strict=True)]))
        self._file.flush()
        os.fsync(self._file.fileno())

    def columns(self) -> dict[str, list]:
        """The further columns of the whole table."""
        first = next(iter(self.known.values()), {})
        return {name: [self.known[row][name] for row in range(len(self.known))] for name in first}

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def _as_lines(records: Sequence[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _read_lines(path: Path) -> list[dict]:
    """The whole lines of a file, which may end in the middle of one."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
