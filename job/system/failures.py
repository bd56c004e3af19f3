"""What one process of a run failed with, in the form in which the others and the one that started it are told."""

import json
import socket

from job.errors import EXIT_BUG, JobError, first_line


class RankFailed(JobError):
    """What one process of several failed with: its message, exit code and whether a retry can help."""

    def __init__(self, message: str, exit_code: int, retryable: bool) -> None:
        super().__init__(message)
        self.exit_code, self.retryable = exit_code, retryable


def name_of(rank: int | str) -> str:
    """A process of this machine, as messages call it."""
    return f"rank {rank} on {socket.gethostname()}"


def to_text(error: BaseException, rank: int | str) -> str:
    """What process `rank` of this machine failed with; where it only hands on what another failed with, that."""
    message = str(error)
    if not isinstance(error, JobError):
        message = str(JobError(f"{type(error).__name__}: {first_line(error)}. Report it, with the log."))  # which hides tokens
    if not isinstance(error, RankFailed) and not message.startswith(name_of(rank)):
        message = f"{name_of(rank)}: {message}"
    exit_code, retryable = getattr(error, "exit_code", EXIT_BUG), getattr(error, "retryable", False)
    return json.dumps({"message": message, "exit_code": exit_code, "retryable": retryable})


def from_text(text: str | bytes) -> RankFailed:
    """What `to_text` was given."""
    return RankFailed(**json.loads(text))
