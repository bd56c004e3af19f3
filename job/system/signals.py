"""SIGTERM, SIGINT and SIGHUP: what stops the job, at once or, while it trains, after the step that it is at."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from job.errors import Interrupted, JobError, causes

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TOGETHER_S = 0.2
"""Signals that come so close to each other are one: a terminal sends it, and the program in front of the job once more."""


class StopSignals:
    """The one answer of this process to stop signals. A second one ends it at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the signal that asked for a stop."""
        self._received_at = 0.0
        self._deferred = self._nothing_is_begun = False
        self._last_words: list[Callable[[], object]] = []
        self._process = os.getpid()

    def watch(self, deferred: bool = False) -> None:
        """From now on these signals raise KeyboardInterrupt, also in process 1 of a container, where they else do nothing.

        Not Interrupted itself: libraries catch any Exception where they try something again. deferred: at first only where
        `obeyed` holds. SIGHUP stays ignored where it is: `nohup` asked for that.
        """
        self._process, self._deferred = os.getpid(), deferred
        for number in NUMBERS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._receive)

    def ignore(self) -> None:
        """From now on no signal changes how the process ends."""
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While this holds, a signal is only noted in `received`, and who computes stops where it is safe."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    @contextmanager
    def obeyed(self) -> Iterator[None]:
        """While this holds, a signal interrupts at once, and so does one that was noted before."""
        before = self._deferred
        try:
            self._deferred = False
            self.raise_if_received()
            yield
        finally:
            self._deferred = before

    @contextmanager
    def ending_at_once(self, say: Callable[[], object]) -> Iterator[None]:
        """While this holds, the first signal ends the process after `say`: nothing is begun that had to be ended."""
        with self.last_words(say):
            self._nothing_is_begun = True
            try:
                yield
            finally:
                self._nothing_is_begun = False

    @contextmanager
    def last_words(self, say: Callable[[], object]) -> Iterator[None]:
        """While this holds, `say` is called before a second signal ends the process."""
        self._last_words.append(say)
        try:
            yield
        finally:
            self._last_words.remove(say)

    def raise_if_received(self) -> None:
        """Raises KeyboardInterrupt if a stop was asked for."""
        if self.received:
            raise KeyboardInterrupt(str(self.interruption()))

    def interruption(self) -> Interrupted:
        """What a stop by the signal that was received means."""
        return Interrupted(f"stopped by {self.received or 'SIGINT'}. Run the same command again to resume.", self.received)

    def interruption_behind(self, error: BaseException) -> Interrupted | None:
        """What `error` means where it comes from a stop; libraries make other errors of a KeyboardInterrupt in their midst."""
        for one in causes(error):
            if isinstance(one, KeyboardInterrupt) and (self.received or one is error):  # a person's own code may raise one
                return self.interruption()
        return self.interruption() if self.received and not isinstance(error, JobError) else None

    def _receive(self, number: int, _frame: object) -> None:
        if os.getpid() != self._process:  # a forked process has nothing to report
            os._exit(Interrupted.exit_code)
        if not self.received:
            self.received, self._received_at = signal.Signals(number).name, time.monotonic()
            if self._nothing_is_begun:
                self._end_at_once()
            if not self._deferred:
                self.raise_if_received()
        elif number != signal.SIGHUP and time.monotonic() - self._received_at >= TOGETHER_S:  # which a shutdown adds to SIGTERM
            self._end_at_once()

    def _end_at_once(self) -> None:
        for say in reversed(self._last_words):
            with contextlib.suppress(Exception):
                say()
        os._exit(self.interruption().exit_code)


stop_signals = StopSignals()
