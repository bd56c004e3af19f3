"""The tree of errors: the exit codes that the README and schedulers rely on."""

import os

import pytest

from job import errors
from job.errors import EXIT_BUG, first_line
from tests.conftest import ERRORS

EXIT_CODES = {
    "DataError": os.EX_DATAERR,
    "InputMissing": os.EX_NOINPUT,
    "HardwareError": os.EX_OSERR,
    "OutOfMemory": os.EX_OSFILE,
    "OutputError": os.EX_CANTCREAT,
    "VerificationFailed": os.EX_CANTCREAT,
    "DiskFull": os.EX_IOERR,
    "Diverged": os.EX_PROTOCOL,
    "AccessDenied": os.EX_NOPERM,
    "SettingsError": os.EX_CONFIG,
    "Transient": 138,
    "Interrupted": 128 + 15,
}
"""sysexits.h, as Python has it, below 128; above it Kubeflow's user-defined retryable code and the shells' 128 + SIGTERM."""
TREE = {kind.__name__: kind for kind in ERRORS}


def test_each_error_has_the_code_of_sysexits_or_of_the_shells():
    assert {name: kind.exit_code for name, kind in TREE.items()} == EXIT_CODES


@pytest.mark.parametrize("name", TREE)
def test_a_retry_helps_from_128_on_and_only_there(name):
    assert TREE[name].retryable == (TREE[name].exit_code >= 128)


def test_no_error_has_the_code_of_a_bug_or_of_a_shell_that_finds_no_command():
    assert os.EX_SOFTWARE == EXIT_BUG
    assert not {0, 1, 2, EXIT_BUG, 126, 127} & {kind.exit_code for kind in TREE.values()}


def test_each_class_of_the_module_belongs_to_the_tree():
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == {"JobError", *TREE}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  one \ntwo"), "one "),
        (KeyError("x"), "'x'"),
        (RuntimeError(), "RuntimeError"),
        (OSError(" \n "), "OSError"),
    ],
)
def test_the_first_line_of_an_error_is_its_type_where_it_says_nothing(error, line):
    assert first_line(error) == line
