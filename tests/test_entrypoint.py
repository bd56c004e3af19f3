"""The command line: what it accepts and which exit code comes back."""

import importlib
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import entrypoint
from job import __version__
from job.config.other_names import OF_OTHER_PROGRAMS
from tests.conftest import ERRORS, environment_with

ROOT = Path(entrypoint.__file__).parent


def test_help_lists_every_command(capsys):
    assert entrypoint.main(["--help"]) == 0
    said = capsys.readouterr().out
    commands = [path.stem for path in (ROOT / "job" / "commands").glob("[a-z]*.py")]
    assert len(commands) >= 9
    assert all(f"\n    {command} " in said for command in commands)


@pytest.mark.parametrize("command", [path.stem for path in sorted((ROOT / "job" / "commands").glob("[a-z]*.py"))])
def test_a_command_has_a_function_of_its_name_that_takes_what_the_command_line_gives(command):
    arguments = {"predict": ["predict", "FILE"], "compare": ["compare", "a", "b"]}.get(command, [command])
    parsed = entrypoint.parse(arguments)
    assert parsed.pop("command") == command
    assert parsed.pop("several") == (command in ("run", "train", "evaluate", "doctor"))
    del parsed["writes"]
    function = getattr(importlib.import_module(f"job.commands.{command}"), command)
    inspect.signature(function).bind("settings", **parsed)


def test_the_version_is_printed_and_stands_in_one_place(capsys):
    assert entrypoint.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lora-job {__version__}\n"


def test_a_command_that_exits_is_a_bug_and_not_a_success(run_job, monkeypatch):
    from job.commands import run

    monkeypatch.setattr(run, "run", lambda settings: sys.exit(0))
    assert run_job()[0] == 70


@pytest.mark.parametrize("arguments", [["trian"], ["run", "fast"], ["predict"], ["predict", "a", "b", "c"]])
def test_a_wrong_command_is_a_settings_error(run_job, arguments):
    code, said = run_job(*arguments)
    assert code == 78
    assert "--help" in said


LIBRARIES = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize(("given", "found"), [
    ({}, LIBRARIES),
    ({"PYTORCH_ALLOC_CONF": "x", "GOMP_SPINCOUNT": "7"}, {"PYTORCH_ALLOC_CONF": "x", "GOMP_SPINCOUNT": "7"}),
    ({"PYTORCH_CUDA_ALLOC_CONF": "x", "OMP_WAIT_POLICY": "active"}, {}),
])  # fmt: skip
def test_what_libraries_read_as_they_are_loaded_is_set_where_nobody_did(monkeypatch, given, found):
    for name in (*LIBRARIES, "PYTORCH_CUDA_ALLOC_CONF", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    entrypoint.set_up_libraries()
    assert all(name.startswith(OF_OTHER_PROGRAMS) for name in LIBRARIES), "in the container a further process would refuse them"
    assert {name: os.environ[name] for name in LIBRARIES if name in os.environ} == found
    for name in LIBRARIES:
        monkeypatch.delenv(name, raising=False)


def test_exit_codes_are_those_of_the_contract():
    codes = {error.__name__: error.exit_code for error in ERRORS}
    assert codes == {
        "DataError": 65, "InputMissing": 66, "HardwareError": 71, "OutOfMemory": 72, "OutputError": 73, "VerificationFailed": 73,
        "DiskFull": 74, "DiskFailed": 74,
        "Diverged": 76, "AccessDenied": 77, "SettingsError": 78, "Transient": 138, "Interrupted": 143,
    }  # fmt: skip
    assert all(error.retryable == (error.exit_code >= 128) for error in ERRORS)


def test_a_bug_shows_its_traceback_and_a_users_error_does_not(run_job, monkeypatch, caplog):
    from job.commands import run

    def fail(settings: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(run, "run", fail)
    assert run_job()[0] == 70
    assert caplog.records[-1].exc_info is not None
    assert run_job(LORA_R="x")[0] == 78
    assert not caplog.records[-1].exc_info


def test_debug_shows_the_traceback_of_a_users_error(run_job, caplog):
    try:
        assert run_job(MODEL_ID="./nowhere", LOG_LEVEL="debug")[0] == 66
        assert caplog.records[-1].exc_info
    finally:
        logging.getLogger("job").setLevel(logging.INFO)


def test_a_wrong_variable_is_told_by_the_process_in_one_line(tmp_path):
    environment = os.environ | {"LERNING_RATE": "1"}
    program = [sys.executable, ROOT / "entrypoint.py"]
    result = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 78
    assert result.stderr.strip().endswith("LERNING_RATE: no such variable. Did you mean LEARNING_RATE?")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_the_process_with_143_and_one_line(tmp_path, number):
    program, environment = [sys.executable, ROOT / "entrypoint.py"], environment_with({"NUM_TRAIN_EPOCHS": 500})
    with subprocess.Popen(program, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert any("loss" in line for line in process.stderr), "training did not begin"
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 143
    assert f"stopped by {number.name}" in rest.splitlines()[-1]
    assert "Traceback" not in rest
    status = json.loads((tmp_path / "output" / "demo" / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["retryable"]) == ("failed", 143, True)


@pytest.mark.slow
def test_a_stop_signal_is_not_taken_for_a_failed_download(tmp_path):
    environment = environment_with({"MODEL_ID": "some/model", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": tmp_path})
    del environment["HF_HUB_OFFLINE"]
    program = [sys.executable, ROOT / "entrypoint.py"]
    with subprocess.Popen(program, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert any("Retrying" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 143


def test_a_sweep_of_nothing_is_refused_before_the_libraries_are_imported(monkeypatch, caplog):
    monkeypatch.setattr(entrypoint.importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert entrypoint.main(["sweep"]) == 78
    assert "sweep: SWEEP is not set. Say what to try, such as SWEEP=" in caplog.text
