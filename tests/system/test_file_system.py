"""What a file system refuses, by the error that it gives: the class, the line, and the variable or file that it names."""

import errno
import os
import shutil
import socket
import ssl
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from job.errors import DataError, DiskFailed, DiskFull, JobError, OutputError
from job.system import file_system
from job.system.file_system import error_number, file_system_error, is_disk_full

Usage = namedtuple("Usage", "total used free")
FOLDERS = {"OUTPUT_DIR": Path("output"), "LOGS_DIR": Path("logs")}


@pytest.fixture(autouse=True)
def free_bytes(monkeypatch) -> dict[str, int]:
    """Free bytes of a disk by its folder; 10 GiB where a test says nothing."""
    free: dict[str, int] = {}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**40, 0, free.get(str(folder), 10 * 2**30)))
    return free


def refused(number: int, file: str | bytes | None = None) -> OSError:
    return OSError(number, os.strerror(number), file)


def wrapped(inner: BaseException, *, explicitly: bool) -> RuntimeError:
    try:
        try:
            raise inner
        except BaseException as error:
            if explicitly:
                raise RuntimeError("cannot save") from error
            raise RuntimeError("cannot save")  # noqa: B904
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(("error", "kind", "said"), [
    (refused(errno.ENOSPC, "output/r/a"), DiskFull, "OUTPUT_DIR: output/r/a: no space left. Free some and run"),
    (refused(errno.EDQUOT, "logs/r"), DiskFull, f"LOGS_DIR: logs/r: the quota of uid {os.getuid()} is used up. Free some"),
    (refused(errno.EIO, b"logs/r/x"), DiskFailed, "LOGS_DIR: logs/r/x: the disk fails (Input/output error). Look into `dmesg`"),
    (refused(errno.ESTALE, "output/r"), DiskFailed, "OUTPUT_DIR: output/r: the network file system lost it (Stale file handle)"),
    (refused(errno.EROFS, "answers.csv"), OutputError, "answers.csv: on a read-only file system"),
    (refused(errno.EMFILE, "/lib/x"), OutputError, "/lib/x: too many files are open. Raise the limit: `ulimit -n 4096`."),
    (refused(errno.EFBIG, "output/r/a"), OutputError, "OUTPUT_DIR: output/r/a: a file would be larger than"),
    (refused(errno.ENOENT, "output/r/a"), OutputError, "OUTPUT_DIR: output/r/a is gone, deleted while the job ran."),
    (refused(errno.EINVAL, "output/r/a"), OutputError, "OUTPUT_DIR: output/r/a: the file system refuses this (Invalid argument)."),
    (refused(errno.EINVAL), OutputError, "OUTPUT_DIR or LOGS_DIR: the file system refuses this (Invalid argument)."),
    (refused(errno.EIO), DiskFailed, "OUTPUT_DIR or LOGS_DIR: the disk fails"),
    (SafetensorError("I/O error: No space left on device (os error 28)"), DiskFull, "OUTPUT_DIR or LOGS_DIR: no space left."),
    (SafetensorError("I/O error: Read-only file system (os error 30)"), OutputError, "OUTPUT_DIR or LOGS_DIR: on a read-only"),
    (OSError("Error writing bytes to file. Detail: [errno 5] Input/output error"), DiskFailed, "OUTPUT_DIR or LOGS_DIR: the disk"),
    (RuntimeError("unable to open file <output/a> in read-only mode: Input/output error (5)"), DiskFailed, "OUTPUT_DIR or LOGS"),
    (FileNotFoundError("No such file or directory: output/r/a"), OutputError, "OUTPUT_DIR: output/r/a is gone"),
    (wrapped(refused(errno.EROFS, "logs/a"), explicitly=True), OutputError, "LOGS_DIR: logs/a: on a read-only"),
    (wrapped(refused(errno.EROFS, "logs/a"), explicitly=False), OutputError, "LOGS_DIR: logs/a: on a read-only"),
])  # fmt: skip
def test_each_refusal_has_its_class_and_its_line(error, kind, said):
    found = file_system_error(error, FOLDERS)
    assert type(found) is kind
    assert str(found).startswith(said)


@pytest.mark.parametrize("error", [
    refused(errno.ENOENT, "/nothing/of/ours"), refused(errno.EACCES, "/etc/shadow"), refused(errno.ENOENT), refused(errno.EPERM),
    refused(errno.ENOMEM, "output/r/a"), refused(errno.ECONNREFUSED), ConnectionResetError(errno.ECONNRESET, "reset"),
    ssl.SSLError(errno.EIO, "TLS has a 5 of its own"), socket.gaierror(errno.EIO, "so has a lookup of a name"),
    TimeoutError(errno.ETIMEDOUT, "slow"), RuntimeError("shapes differ"), KeyError("a bug"),
    refused(errno.EINVAL, "/nothing/of/ours"), DataError("row 3 is empty. Fill it."),
])  # fmt: skip
def test_bugs_the_network_memory_and_other_peoples_files_are_no_refusal(error):
    assert file_system_error(error, FOLDERS) is None


def test_a_persons_mistake_stays_one_on_a_disk_that_fails():
    error = DataError("row 3 is empty. Fill it.")
    error.__cause__ = refused(errno.EIO, "output/r/a")
    assert file_system_error(error, FOLDERS) is None


def test_the_folder_that_is_full_is_named_where_the_error_names_none(free_bytes):
    free_bytes["logs"] = 2**20 - 1
    assert str(file_system_error(refused(errno.ENOSPC), FOLDERS)).startswith("LOGS_DIR: no space left")
    free_bytes["output"] = 0
    assert str(file_system_error(refused(errno.ENOSPC), FOLDERS)).startswith("OUTPUT_DIR or LOGS_DIR: no space left")


def test_a_full_memory_is_no_full_disk_even_where_that_is_full_as_well(free_bytes):
    free_bytes["output"] = 0
    assert isinstance(file_system_error(RuntimeError("shapes differ"), FOLDERS), DiskFull)
    assert file_system_error(torch.OutOfMemoryError("CUDA out of memory."), FOLDERS) is None


def test_a_disk_without_room_for_further_files_is_not_called_full(monkeypatch, tmp_path):
    room = namedtuple("Room", "f_files f_favail f_bavail")
    monkeypatch.setattr(file_system.os, "statvfs", lambda _: room(1000, 0, 10**6))
    said = str(file_system_error(refused(errno.ENOSPC, str(tmp_path / "a")), {"OUTPUT_DIR": tmp_path}))
    assert said.endswith("no room for further files (its inodes are used up). Delete small files and run the same command again.")
    monkeypatch.setattr(file_system.os, "statvfs", lambda _: room(0, 0, 10**6))  # a file system that has no such number
    assert "no space left" in str(file_system_error(refused(errno.ENOSPC, str(tmp_path / "a")), {"OUTPUT_DIR": tmp_path}))


@pytest.mark.parametrize(("error", "number"), [
    (refused(errno.EIO), errno.EIO), (wrapped(refused(errno.EDQUOT), explicitly=True), errno.EDQUOT),
    (RuntimeError("No space left on device"), errno.ENOSPC), (OSError("made up by a library"), None), (KeyError("x"), None),
    (wrapped(ValueError("x"), explicitly=False), None),
])  # fmt: skip
def test_the_number_is_found_where_the_system_gave_one(error, number):
    assert error_number(error) == number
    assert is_disk_full(error, Path("output")) is (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize(("free", "expected"), [(2**20 - 1, True), (2**20, False)])
def test_where_the_error_does_not_say_so_a_disk_with_nothing_left_does(free_bytes, free, expected):
    """Some libraries say that they failed, and no more."""
    free_bytes["output"] = free
    error = RuntimeError("failed writing file")
    assert is_disk_full(error, Path("output")) is expected
    assert isinstance(file_system_error(error, FOLDERS), DiskFull if expected else type(None))
    assert is_disk_full(KeyError("a bug"), Path("output")) is False


def test_a_full_disk_that_runs_are_not_written_to_explains_no_error(free_bytes):
    free_bytes["cache"] = free_bytes["logs"] = 0
    assert file_system_error(RuntimeError("a bug"), FOLDERS | {"HF_HOME": Path("cache")}) is None


def test_every_meaning_ends_with_what_to_do_and_is_no_bug():
    for number in file_system.MEANINGS:
        found = file_system_error(refused(number, "output/a"), FOLDERS)
        assert isinstance(found, JobError)
        assert found.exit_code in (73, 74)
        assert str(found).endswith((".", "`."))
