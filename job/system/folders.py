"""Folders that this process writes to: made, tried, shared with their group."""

import errno
import os
import stat
from pathlib import Path

from job.errors import DiskFull, OutputError


def ensure_writable(folder: Path, variable: str) -> None:
    """Makes `folder`, which `variable` names, if need be. Raises OutputError or DiskFull if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_text("x")
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"{variable}: no space left at {folder}. Free some.") from None
        raise OutputError(f"{variable}: {folder} cannot be written by uid {os.getuid()}: {_remedy(folder, error)}") from None


def share_with_group(folder: Path) -> None:
    """Lets the group of a setgid `folder` change what this process writes from now on; docker-compose.yml makes ./output one."""
    if folder.stat().st_mode & stat.S_ISGID:
        os.umask(os.umask(0) & ~0o070)


def _remedy(folder: Path, error: OSError) -> str:
    """What happened to `folder`, and the command that fixes it."""
    if error.errno == errno.EROFS:
        return "it is on a read-only file system. Mount it writable, or choose another folder."
    if error.errno not in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}. Choose another folder."
    mount = next((path for path in (folder, *folder.parents[:-1]) if path.is_mount()), None)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    chown = f"sudo chown -R {os.getuid()}:{os.getgid()}"
    if mount:
        return f"{error.strerror}. On the host run `{chown} ./{mount.name}`, or that for whatever folder is mounted at {mount}."
    return f"{error.strerror}. Run `{chown} {there}`, or choose another folder."
