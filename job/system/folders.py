"""Folders that this process writes to: made, tried, shared with their group."""

import errno
import os
import stat
import tempfile
from pathlib import Path

from job.errors import OutputError
from job.system.durable import flush_to_disk
from job.system.file_system import MEANINGS, NO_ROOM, file_system_error


def ensure_writable(folder: Path, variable: str) -> None:
    """Makes `folder`, which `variable` names, if need be. Raises OutputError or DiskFull if nothing can be written there."""
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:  # which has no name, and so cannot stay
            probe.write(b"x")
    except OSError as error:
        error.filename = str(folder)
        if error.errno in (*MEANINGS, *NO_ROOM) and (refused := file_system_error(error, {variable: folder})):
            raise refused from None
        raise OutputError(f"{variable}: {folder} cannot be written by uid {os.getuid()}: {_remedy(folder, error)}") from None


def make_folder(folder: Path) -> None:
    """Makes `folder`, and those that it lies in, where they are not there, so that a power cut does not take them away again."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush_to_disk(folder.parent)


def share_with_group(folder: Path) -> None:
    """Lets the group of a setgid `folder` change what this process writes from now on; docker-compose.yml makes ./output one."""
    if folder.stat().st_mode & stat.S_ISGID:
        os.umask(os.umask(0) & ~0o070)


def _remedy(folder: Path, error: OSError) -> str:
    """What happened to `folder`, and the command that fixes it."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}. Choose another folder."
    mount = next((path for path in (folder, *folder.parents[:-1]) if path.is_mount()), None)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    chown = f"sudo chown -R {os.getuid()}:{os.getgid()}"
    if mount:
        return f"{error.strerror}. On the host run `{chown} ./{mount.name}`, or that for whatever folder is mounted at {mount}."
    return f"{error.strerror}. Run `{chown} {there}`, or choose another folder."
