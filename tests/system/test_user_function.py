"""A person's own function, and each way in which it is not there."""

import os
from pathlib import Path

import pytest

from job.errors import SettingsError
from job.system.signals import stop_signals
from job.system.user_function import describe, load_function, own_errors


def test_the_function_is_the_one_in_the_file(tmp_path):
    (tmp_path / "own.py").write_text("FACTOR = 3\n\ndef triple(x):\n    return FACTOR * x\n")
    assert load_function(f"{tmp_path}/own.py:triple", "METRIC")(14) == 42


def test_a_path_may_have_a_colon_and_the_file_any_name(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "my-own metric.py").write_text("def one():\n    return 1\n")
    assert load_function(f"{folder}/my-own metric.py:one", "METRIC")() == 1


@pytest.mark.parametrize(
    ("code", "spec", "said"),
    [
        ("", "nowhere.py:f", "METRIC=nowhere.py:f: no such file as nowhere.py. Check the path."),
        ("", "own.py", "METRIC=own.py: no such file as . Check the path."),
        ("", "own.py:f", "METRIC=own.py:f: own.py has no function f. Check the name."),
        ("f = 3", "own.py:f", "METRIC=own.py:f: own.py has no function f. Check the name."),
        ("def f(:", "own.py:f", "METRIC=own.py:f: importing own.py raised SyntaxError: "),
        ("import no_such_module", "own.py:f", "importing own.py raised ModuleNotFoundError: No module named 'no_such_module'. Fix"),
        ("raise SystemExit(3)", "own.py:f", "importing own.py raised SystemExit: 3. Fix the file."),
    ],
)
def test_what_is_wrong_is_told_in_one_line(code, spec, said):
    Path("own.py").write_text(code)
    with pytest.raises(SettingsError) as raised:
        load_function(spec, "METRIC")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_error_is_described_on_one_line():
    assert describe(ValueError("two\n   lines")) == "ValueError: two lines"
    assert describe(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_persons_code_raises_is_an_error_of_the_settings(error):
    with (
        pytest.raises(SettingsError, match=rf"METRIC=a:b raised {type(error).__name__}.* on row 1"),
        own_errors("METRIC=a:b", " on row 1"),
    ):
        raise error


def test_what_would_end_the_process_at_once_is_an_error_too_except_in_a_process_that_was_forked():
    with pytest.raises(SettingsError, match="METRIC=a:b raised SystemExit: 0"), own_errors("METRIC=a:b", ""):
        os._exit(0)
    with own_errors("METRIC=a:b", ""):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_stop_while_a_persons_code_runs_is_a_stop(monkeypatch):
    monkeypatch.setattr(stop_signals, "received", "SIGTERM")
    with pytest.raises(KeyboardInterrupt), own_errors("METRIC=a:b", ""):
        raise KeyboardInterrupt("stopped by SIGTERM")
