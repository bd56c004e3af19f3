"""What happens now, at the bottom of a terminal: stage, bar, time left, figures. Log lines scroll by above it."""

import contextlib
import logging
import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

USUAL_WIDTH, LEAST_BAR, MOST_BAR = 80, 8, 30
DRAWN_EVERY_S = 0.1
CLEAR = "\r\x1b[J"
"""Deletes from the beginning of the line that the cursor is in to the end of the screen."""


class LiveView:
    """Some lines that are drawn again and again. The cursor waits on an empty one above them, for whatever a library prints.

    Not rich's Live: its cursor waits at the end, so it erases what C++ and other ranks print, and stays hidden after a SIGKILL.
    """

    def __init__(self) -> None:
        self._lines: Sequence[str] = ()
        self._drawn, self._lock = 0.0, threading.RLock()

    @property
    def is_possible(self) -> bool:
        """Whether there is a terminal whose cursor can be moved, and this process is the one that speaks for all."""
        is_terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return is_terminal and os.environ.get("RANK", "0") == "0"

    def show(self, stage: str, done: int, total: int, left_s: float | None, facts: Sequence[str] = ()) -> None:
        """Replaces what is shown; nothing happens without a terminal, or where the last change was a moment ago."""
        is_due = time.monotonic() - self._drawn >= DRAWN_EVERY_S or done >= total
        if self.is_possible and is_due:
            with self._lock:
                self._draw(view_lines(stage, done, total, left_s, facts, _width()))

    def clear(self) -> None:
        """Shows nothing."""
        with self._lock:
            if self._lines:
                _write(CLEAR)
            self._lines = ()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """While this holds, others can print lines that stay."""
        with self._lock:
            lines = self._lines
            self.clear()
            yield
            if lines:
                self._draw(lines)

    def _draw(self, lines: Sequence[str]) -> None:
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        _write(CLEAR + "\r\n".join(lines) + up + "\r")
        self._lines, self._drawn = lines, time.monotonic()


live_view = LiveView()
"""That of this process's terminal."""


class LogAbove(logging.StreamHandler):
    """Prints log lines above the live view."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one."""
        with live_view.hidden():
            super().emit(record)


def view_lines(stage: str, done: int, total: int, left_s: float | None, facts: Sequence[str], width: int) -> list[str]:
    """The lines of a view in a terminal so wide: an empty one, what and how far, then `facts`, as many on a line as fit."""
    room = width - 1  # in the last column a terminal may begin a new line
    share = done / total if total else 0.0
    words = [f"{100 * share:.0f} %", f"{done} of {total}", *([describe_left(left_s)] if left_s is not None else [])]
    around = len(f"{stage} [] {'  '.join(words)}")
    if around + LEAST_BAR > room:
        words.remove(f"{done} of {total}")
        around = len(f"{stage} [] {'  '.join(words)}")
    length = min(MOST_BAR, room - around)
    bar = f"[{'#' * round(length * share):-<{length}}] " if length >= LEAST_BAR else ""
    return ["", f"{stage} {bar}{'  '.join(words)}"[:room], *textwrap.wrap(", ".join(filter(None, facts)), room)]


def describe_left(seconds: float) -> str:
    """The time that is left."""
    return f"{timedelta(seconds=round(seconds))} left"


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_WIDTH
    except OSError:
        return USUAL_WIDTH


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed is no reason to stop
        sys.stderr.write(text)
        sys.stderr.flush()
