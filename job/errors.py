"""The tree of errors that a person can cause or must know of; each class owns its exit code.

Codes follow sysexits below 128 (a retry cannot help); from 128 on a retry can help. Any other exception is a bug: exit 70.
"""

import re

EXIT_BUG = 70
UNSEEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Characters that end a line, command a terminal, turn the direction of writing, or are none."""
SECRET = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}"
    r"|(?<=://)[^/?#@\s]+@"
    r"|(?<=[?&])(?:[\w-]*token|[\w-]*key|sig|signature|password|x-amz-[\w-]+)=[^&#\s]+",
    re.IGNORECASE,
)
"""Tokens of the hub, and what addresses hold of a password or a token."""


class JobError(Exception):
    """Something a person can act on. Its message is one line: where, what was found, what was expected, what to do."""

    exit_code: int
    retryable = False

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(SECRET.sub("***", message)))


class DataError(JobError):
    """The data is wrong."""

    exit_code = 65


class InputMissing(JobError):
    """Data or a model is not there."""

    exit_code = 66


class HardwareError(JobError):
    """A GPU is missing or unusable."""

    exit_code = 71


class OutOfMemory(JobError):
    """Nothing fits the memory."""

    exit_code = 72


class OutputError(JobError):
    """The output is not writable or in use."""

    exit_code = 73


class VerificationFailed(JobError):
    """What was written does not answer as what was measured."""

    exit_code = 73


class DiskFull(JobError):
    """The disk is full."""

    exit_code = 74


class DiskFailed(JobError):
    """The disk, or the network that it is behind, fails."""

    exit_code = 74


class Diverged(JobError):
    """Training met NaN or infinity."""

    exit_code = 76


class AccessDenied(JobError):
    """The hub refuses access: a gated model or a bad token."""

    exit_code = 77


class SettingsError(JobError):
    """A variable is unknown, ill-typed, contradictory, or not that of the run being resumed."""

    exit_code = 78


class Transient(JobError):
    """Passing trouble of the hub or the network."""

    exit_code = 138
    retryable = True


class Interrupted(JobError):
    """SIGTERM, SIGINT or SIGHUP arrived."""

    exit_code = 143
    retryable = True

    def __init__(self, message: str, signal_name: str | None = None) -> None:
        super().__init__(message)
        if signal_name == "SIGHUP":
            self.exit_code = 129


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def causes(error: BaseException | None) -> list[BaseException]:
    """`error`, what it was raised from or after, and so on: libraries make errors of their own of those of others."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def one_line(text: str) -> str:
    """`text` with what could command a terminal or begin another line written out: "\\n", "\\x1b"."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)
