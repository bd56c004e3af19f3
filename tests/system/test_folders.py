"""Folders that cannot be written, and folders shared with a group."""

import errno
import os
from pathlib import Path

import pytest

from job.errors import DiskFailed, DiskFull, OutputError
from job.system import folders
from job.system.folders import ensure_writable, make_folder, share_with_group


def message(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int, error: type[Exception] = OutputError) -> str:
    """What is said of `folder` when writing there fails with this errno."""

    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folders.tempfile, "TemporaryFile", fail)
    with pytest.raises(error) as raised:
        ensure_writable(folder, "OUTPUT_DIR")
    return str(raised.value)


def test_a_folder_of_another_user_is_answered_with_the_chown_line(monkeypatch, tmp_path):
    said = message(monkeypatch, tmp_path, errno.EACCES)
    assert f"Run `sudo chown -R {os.getuid()}:{os.getgid()} {tmp_path}`" in said


def test_a_mounted_folder_is_answered_with_the_chown_line_for_the_host(monkeypatch, tmp_path):
    (tmp_path / "output").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "output")
    said = message(monkeypatch, tmp_path / "output" / "run", errno.EACCES)
    assert f"On the host run `sudo chown -R {os.getuid()}:{os.getgid()} ./output`" in said


def test_a_read_only_mount_is_not_answered_with_chown(monkeypatch, tmp_path):
    said = message(monkeypatch, tmp_path, errno.EROFS)
    assert "Mount it writable" in said
    assert "chown" not in said


def test_a_full_disk_is_told_as_such(monkeypatch, tmp_path):
    assert message(monkeypatch, tmp_path, errno.ENOSPC, DiskFull).startswith(f"OUTPUT_DIR: {tmp_path}: no space left")


def test_a_disk_that_fails_is_told_as_such(monkeypatch, tmp_path):
    assert message(monkeypatch, tmp_path, errno.EIO, DiskFailed).startswith(f"OUTPUT_DIR: {tmp_path}: the disk fails")


def test_nothing_is_left_of_the_try(tmp_path):
    ensure_writable(tmp_path / "a" / "b", "OUTPUT_DIR")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["a", "a/b"]


def test_each_folder_that_is_made_is_on_the_disk(monkeypatch, tmp_path):
    flushed: list[Path] = []
    monkeypatch.setattr(folders, "flush_to_disk", flushed.append)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert flushed == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize(("mode", "written"), [(0o2775, 0o664), (0o775, 0o644)])
def test_what_is_written_in_a_setgid_folder_is_writable_by_its_group(tmp_path, mode, written):
    before = os.umask(0o022)
    try:
        tmp_path.chmod(mode)
        share_with_group(tmp_path)
        (tmp_path / "file").write_text("x")
        assert (tmp_path / "file").stat().st_mode & 0o777 == written
    finally:
        os.umask(before)
