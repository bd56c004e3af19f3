"""What a process failed with, as text for the others."""

import json
import socket

import pytest

from job.errors import DataError, Interrupted, Transient
from job.system.failures import RankFailed, from_text, name_of, to_text

RANK_2 = f"rank 2 on {socket.gethostname()}"


@pytest.mark.parametrize(
    ("error", "message", "exit_code", "retryable"),
    [
        (DataError("row 3 is empty. Fill it."), f"{RANK_2}: row 3 is empty. Fill it.", 65, False),
        (Interrupted("stopped by SIGHUP.", "SIGHUP"), f"{RANK_2}: stopped by SIGHUP.", 129, True),
        (Transient(f"{RANK_2}: nobody came."), f"{RANK_2}: nobody came.", 138, True),
        (KeyError("loss"), f"{RANK_2}: KeyError: 'loss'. Report it, with the log.", 70, False),
        (ValueError("one\ntwo"), f"{RANK_2}: ValueError: one. Report it, with the log.", 70, False),
        (RankFailed("rank 5 on other: row 3.", 65, False), "rank 5 on other: row 3.", 65, False),
    ],
)
def test_a_failure_comes_back_with_the_name_of_the_rank_that_had_it(error, message, exit_code, retryable):
    found = from_text(to_text(error, 2).encode())
    assert (str(found), found.exit_code, found.retryable) == (message, exit_code, retryable)


def test_a_token_in_the_message_of_a_bug_is_not_told():
    assert "hf_" not in to_text(ValueError("hf_" + "a" * 34), 0)


def test_a_failure_is_told_as_json_of_three_fields():
    assert json.loads(to_text(DataError("x."), "1")).keys() == {"message", "exit_code", "retryable"}
    assert name_of("1") == name_of(1)
