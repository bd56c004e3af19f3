"""Values of variables that are more than a number, a text or a choice."""

import pytest
from pydantic import TypeAdapter, ValidationError

from job.config.field_types import FileFunction, Length, Lengths, Port, Processes, Words
from job.config.settings import Settings


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Length, ["auto", "p1", "p100", "512"], ["p0", "p101", "0", "-3", "all", "1.5", ""]),
        (FileFunction, ["a.py:f", "a/b.py:_f1"], ["a.py", "a.txt:f", "a.py:1f", ":f"]),
        (Processes, ["auto", "1", "16"], ["0", "-1", "all", "1.5"]),
        (Lengths, ["1/2/3"], ["1/2", "0/1/2", "a/b/c", "1/2/3/4"]),
        (Port, [1, 65535], [0, 65536]),
    ],
)
def test_a_value_is_taken_or_refused(kind, right, wrong):
    adapter = TypeAdapter(kind)
    assert [adapter.validate_python(value) for value in right] == right
    for value in wrong:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_words_are_split_at_commas_and_blanks_around_them_are_none_of_theirs():
    assert TypeAdapter(Words).validate_python(" q, v,,k ") == ("q", "v", "k")


def test_the_address_of_a_service_is_no_port(monkeypatch):
    monkeypatch.setenv("SERVE_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("TENSORBOARD_PORT", "udp://10.0.0.1:80")
    assert (Settings().serve_port, Settings().tensorboard_port) == (8000, 6006)
