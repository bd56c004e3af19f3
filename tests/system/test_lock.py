"""One writer a folder; tests/faults/test_promises.py has the run that meets a holder and outlives it."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from job.errors import OutputError
from job.system import lock
from job.system.lock import NAME, locked, waiting_for

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, pathlib
from job.system import lock
from job.system.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("go", flush=True)
    input()
"""


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path):
    with locked(tmp_path):
        with pytest.raises(OutputError) as raised, locked(tmp_path):
            pass
        said = str(raised.value)
        assert said.startswith(f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()} since 20")
        assert said.endswith(". Wait for it, stop it, or choose another RUN_NAME.")


def test_the_folder_is_free_again_afterwards_also_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="x"), locked(tmp_path):
        raise ValueError("x")
    with locked(tmp_path):
        pass


def test_two_folders_have_two_locks(tmp_path):
    (tmp_path / "other").mkdir()
    with locked(tmp_path), locked(tmp_path / "other"):
        assert (tmp_path / NAME).exists()
        assert (tmp_path / "other" / NAME).exists()


def test_a_holder_that_was_killed_holds_nothing_though_its_file_is_there(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "go\n"
        with pytest.raises(OutputError, match=f"process {holder.pid} on"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
    assert json.loads((tmp_path / NAME).read_text())["pid"] == holder.pid
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid(), "the new holder's name alone"


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_a_holder_that_has_not_written_its_name_yet_is_another_process(tmp_path, content):
    with locked(tmp_path):
        (tmp_path / NAME).write_text(content)
        with pytest.raises(OutputError, match="is in use by another process"), locked(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(monkeypatch, tmp_path, number):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with pytest.raises(OutputError) as raised, locked(tmp_path):
        pass
    assert str(raised.value).startswith(f"{tmp_path}: its file system has no locks ({os.strerror(number)})")
    assert "Mount it with locks" in str(raised.value)


def test_who_waits_for_a_file_has_it_once_the_other_lets_go(tmp_path):
    program = """
import pathlib, sys
from job.system.lock import waiting_for
with waiting_for(pathlib.Path(sys.argv[1])):
    print("mine", flush=True)
"""
    with waiting_for(tmp_path / "file"):
        other = subprocess.Popen([sys.executable, "-c", program, tmp_path / "file"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=1)
    assert other.communicate(timeout=60)[0] == "mine\n"
