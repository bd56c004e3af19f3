"""The tree of errors: its exit codes are those of the documents, and a retry helps from 128 on."""

import os
import re
from pathlib import Path

import pytest

from job import errors
from job.errors import EXIT_BUG, JobError, first_line

PAGE = Path(errors.__file__).parents[1] / "docs" / "reliability.md"
CLASSES = JobError.__subclasses__()


def documented() -> dict[str, int]:
    """Class -> exit code, as the table of the page has them."""
    return {name: int(code) for code, name in re.findall(r"^\| (\d+) \|[^|]*\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)}


def test_the_table_of_the_page_is_what_the_classes_own():
    assert {name: getattr(errors, name).exit_code for name in documented()} == documented()
    assert len(documented()) >= 11
    assert {one.exit_code for one in CLASSES} == set(documented().values())


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_a_retry_helps_from_128_on_and_only_there(error):
    assert error.retryable == (error.exit_code >= 128)
    assert error.exit_code not in (0, 1, 2, 137, EXIT_BUG), (
        "of success, of Python itself, of a shell, of a killed process, of a bug"
    )


@pytest.mark.parametrize(
    ("error", "name"),
    [
        ("DataError", "EX_DATAERR"), ("InputMissing", "EX_NOINPUT"), ("OutputError", "EX_CANTCREAT"), ("DiskFull", "EX_IOERR"),
        ("AccessDenied", "EX_NOPERM"), ("SettingsError", "EX_CONFIG"), ("HardwareError", "EX_OSERR"),
    ],
)  # fmt: skip
def test_codes_are_those_that_the_system_has_names_for(error, name):
    assert getattr(errors, error).exit_code == getattr(os, name)
    assert os.EX_SOFTWARE == EXIT_BUG


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a"), (ValueError(" \n a "), "a"), (ValueError(), "ValueError"), (KeyError("x"), "'x'"),
        (OSError("\n"), "OSError"),
    ],
)  # fmt: skip
def test_the_first_line_of_an_error_is_never_empty(error, line):
    assert first_line(error) == line
