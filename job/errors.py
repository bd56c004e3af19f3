"""The tree of errors that a person can cause or must know of; each class owns its exit code.

Codes follow sysexits below 128 (a retry cannot help); from 128 on a retry can help. Any other exception is a bug: exit 70.
"""

EXIT_BUG = 70


class JobError(Exception):
    """Something a person can act on. Its message is one line: where, what was found, what was expected, what to do."""

    exit_code: int
    retryable = False


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
    """SIGTERM or SIGINT arrived."""

    exit_code = 143
    retryable = True


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
