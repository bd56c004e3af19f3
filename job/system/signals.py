"""SIGTERM and SIGINT: what stops the job, at once or, while it trains, after the step that it is at."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from job.errors import Interrupted


class StopSignals:
    """The one answer of this process to stop signals. A second one ends it at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the signal that asked for a stop."""
        self._deferred = False
        self._process = os.getpid()

    def watch(self) -> None:
        """From now on both signals raise KeyboardInterrupt, also in process 1 of a container, where they else do nothing.

        Not Interrupted itself: libraries catch any Exception where they try something again.
        """
        self._process = os.getpid()
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While this holds, a signal is only noted in `received`, and who computes stops where it is safe."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_if_received(self) -> None:
        """Raises KeyboardInterrupt if a stop was asked for."""
        if self.received:
            raise KeyboardInterrupt(f"stopped by {self.received}. Run the same command again to resume.")

    def _receive(self, number: int, _frame: object) -> None:
        if os.getpid() != self._process or self.received:  # a forked worker has nothing to report; a second signal wants no delay
            os._exit(Interrupted.exit_code)
        self.received = signal.Signals(number).name
        if not self._deferred:
            self.raise_if_received()


stop_signals = StopSignals()
