"""Files are there in whole or not at all, and a full disk is recognised however it is wrapped."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors import SafetensorError

from job.errors import DiskFull
from job.system import durable
from job.system.durable import check_space, is_disk_full, make_readable, replace_folder_durably, write_json, write_text

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def roomy(monkeypatch) -> None:
    """A disk with 10 GiB free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**40, 2**40 - 10 * 2**30, 10 * 2**30))


def test_json_is_read_back_and_what_json_has_no_type_for_is_its_text():
    write_json(Path("a.json"), {"a": [1, 2.5, None], "folder": Path("x/y")})
    assert json.loads(Path("a.json").read_text()) == {"a": [1, 2.5, None], "folder": "x/y"}
    assert Path("a.json").read_text().endswith("}\n")


def test_text_is_utf_8_also_where_the_locale_has_another_encoding():
    code = "import sys, pathlib, job.system.durable as d; d.write_text(pathlib.Path(sys.argv[1]), 'Gr\\xfc\\xdfe')"
    ascii_locale = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    place = Path("a.html").resolve()
    subprocess.run([sys.executable, "-c", code, str(place)], check=True, cwd=ROOT, env=ascii_locale)
    assert place.read_bytes() == "Grüße".encode()


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(monkeypatch, failing):
    write_text(Path("a.txt"), "old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "no luck")

    monkeypatch.setattr(durable.os, failing, fail)
    with pytest.raises(OSError, match="no luck"):
        write_text(Path("a.txt"), "new")
    assert Path("a.txt").read_text() == "old"


def test_what_is_written_is_on_the_disk_before_it_has_its_name_and_its_name_before_anything_else(monkeypatch):
    """A power cut must find the old file, or the new one whole."""
    events, replace, fsync = [], os.replace, os.fsync

    def note_flush(descriptor: int) -> None:
        events.append(f"flush {Path(f'/proc/self/fd/{descriptor}').resolve().name}")
        fsync(descriptor)

    monkeypatch.setattr(durable.os, "fsync", note_flush)
    monkeypatch.setattr(durable.os, "replace", lambda a, b: events.append(f"{a.name} -> {b.name}") or replace(a, b))
    Path("folder").mkdir()
    write_text(Path("folder/a.txt"), "x")
    assert events == ["flush a.txt.partial", "a.txt.partial -> a.txt", "flush folder"]


def test_a_folder_takes_the_place_of_the_older_one_whole_and_readable(tmp_path):
    before = os.umask(0o022)
    try:
        for name, files in (("adapter", ("old", "both")), ("adapter.partial", ("new", "both"))):
            (tmp_path / name).mkdir()
            for file in files:
                (tmp_path / name / file).write_text(name)
                (tmp_path / name / file).chmod(0o600)
        replace_folder_durably(tmp_path / "adapter.partial", tmp_path / "adapter")
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    found = {path.name: (path.read_text(), stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "adapter").iterdir()}
    assert found == {"new": ("adapter.partial", 0o644), "both": ("adapter.partial", 0o644)}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_gets_the_mode_that_the_umask_gives_and_the_umask_stays(umask, mode):
    before = os.umask(umask)
    try:
        Path("a").touch(mode=0o600)
        make_readable(Path("a"))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("a").stat().st_mode) == mode


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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (wrapped(OSError(errno.ENOSPC, "full"), explicitly=True), True),
        (wrapped(OSError(errno.ENOSPC, "full"), explicitly=False), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("shapes differ"), False),
        (wrapped(ValueError("x"), explicitly=True), False),
    ],
    ids=["full", "quota", "safetensors", "cause", "context", "access", "another", "another's cause"],
)
def test_a_full_disk_is_recognised_through_the_libraries_own_errors(roomy, tmp_path, error, expected):
    assert is_disk_full(error, tmp_path) is expected


@pytest.mark.parametrize(("free", "expected"), [(2**20 - 1, True), (2**20, False)])
def test_where_the_error_does_not_say_so_a_disk_with_nothing_left_does(monkeypatch, tmp_path, free, expected):
    """torch says "PytorchStreamWriter failed writing file" and no more."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**40, 2**40 - free, free))
    assert is_disk_full(RuntimeError("PytorchStreamWriter failed writing file"), tmp_path) is expected
    assert is_disk_full(KeyError("a bug"), tmp_path) is False


def test_space_is_checked_before_it_is_needed_and_both_numbers_are_told(roomy, tmp_path):
    check_space(tmp_path, 10 * 2**30, "this run will write")
    with pytest.raises(DiskFull) as raised:
        check_space(tmp_path, 12.5 * 2**30, "this run will write")
    assert str(raised.value) == (
        f"OUTPUT_DIR: 10.00 GiB free at {tmp_path}, this run will write about 12.50. Free some, or set OUTPUT_DIR to another disk."
    )
