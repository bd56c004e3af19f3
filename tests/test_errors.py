"""The tree of errors: the exit codes that the README and schedulers rely on."""

import os

import pytest

from job import errors
from job.errors import EXIT_BUG, DataError, first_line
from tests.conftest import ERRORS

EXIT_CODES = {
    "DataError": os.EX_DATAERR,
    "InputMissing": os.EX_NOINPUT,
    "HardwareError": os.EX_OSERR,
    "OutOfMemory": os.EX_OSFILE,
    "OutputError": os.EX_CANTCREAT,
    "VerificationFailed": os.EX_CANTCREAT,
    "DiskFull": os.EX_IOERR,
    "DiskFailed": os.EX_IOERR,
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


@pytest.mark.parametrize(("message", "shown"), [
    ("a\x1b[31mred\nverdict: better\r", "a\\x1b[31mred\\nverdict: better\\r"),
    ("left \u202eto right \u2028 \x85 \ud83d", "left \\u202eto right \\u2028 \\x85 \\ud83d"),
    ("Grüße, 日本　語, \xa0, 👩‍🔧", "Grüße, 日本　語, \xa0, 👩‍🔧"),
    (f"hf_{'aB3' * 12} is denied", "*** is denied"),
    ("https://me:secret@host/x.csv", "https://***host/x.csv"),
    ("http://h/a?x=1&access_token=secret&y=2#z", "http://h/a?x=1&***&y=2#z"),
    ("http://h/a?X-Amz-Signature=secret&sig=secret", "http://h/a?***&***"),
    ("hf_datasets_of_transformers.csv me@home.org /a@b/c", "hf_datasets_of_transformers.csv me@home.org /a@b/c"),
])  # fmt: skip
def test_a_message_is_one_line_without_tokens(message, shown):
    assert str(DataError(message)) == shown
