"""Files are there in whole or not at all, also on file systems that cannot sync a folder."""

import contextlib
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

from job.errors import DiskFull
from job.system import durable
from job.system.durable import check_space, delete_folder, make_readable, replace_folder_durably, write_json, write_text

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


def test_a_folder_takes_the_place_of_the_older_one_whole(tmp_path):
    for name, files in (("adapter", ("old", "both")), ("adapter.partial", ("new", "both"))):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text(name)
    replace_folder_durably(tmp_path / "adapter.partial", tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    found = {path.name: path.read_text() for path in (tmp_path / "adapter").iterdir()}
    assert found == {"new": "adapter.partial", "both": "adapter.partial"}


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


@pytest.mark.parametrize(("number", "is_folder", "accepted"), [
    (errno.EINVAL, True, True), (errno.ENOTSUP, True, True), (errno.EINVAL, False, False), (errno.EIO, True, False),
])  # fmt: skip
def test_a_file_system_that_keeps_names_by_itself_need_not_sync_a_folder(monkeypatch, tmp_path, number, is_folder, accepted):
    """As CIFS and some of FUSE; a file's content must be synced everywhere."""
    usual = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == is_folder:
            raise OSError(number, os.strerror(number))
        usual(descriptor)

    monkeypatch.setattr(durable.os, "fsync", fsync)
    with contextlib.nullcontext() if accepted else pytest.raises(OSError, match=os.strerror(number)) as raised:
        write_text(tmp_path / "a.txt", "x")
    assert accepted or raised.value.filename == str(tmp_path if is_folder else tmp_path / "a.txt.partial")


def test_space_is_checked_before_it_is_needed_and_both_numbers_are_told(roomy, tmp_path):
    check_space(tmp_path, 10 * 2**30, "this run will write")
    with pytest.raises(DiskFull) as raised:
        check_space(tmp_path, 12.5 * 2**30, "this run will write")
    assert str(raised.value) == (
        f"OUTPUT_DIR: 10.00 GiB free at {tmp_path}, this run will write about 12.50. Free some, or set OUTPUT_DIR to another disk."
    )


def test_what_cannot_be_deleted_is_told_with_its_folder(monkeypatch, tmp_path):
    """`shutil.rmtree` goes by open folders, and names a file alone: nobody knows then whose it is."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()

    def unlink(name: str, **_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument", name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with pytest.raises(OSError, match="Invalid argument") as raised:
            delete_folder(tmp_path / "a")
    assert raised.value.filename == str(tmp_path / "a")
    delete_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
