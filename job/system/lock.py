"""One writer per run folder: a lock of the kernel's, which goes with the process that holds it."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from job.errors import OutputError

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems answer that cannot lock."""
_locked: weakref.WeakSet[IO] = weakref.WeakSet()
"""Open files of this process that hold a lock."""


def keep_from_children(file: IO) -> None:
    """No process that is forked from now on gets this file, whose lock it would hold for as long as it lives."""
    _locked.add(file)


def _replace_in_child() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for file in _locked:
        if not file.closed:
            os.dup2(null, file.fileno(), inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_replace_in_child)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process. Raises OutputError, naming the holder, if another one has it.

    A holder that died, however it died, holds nothing: the kernel lets go of its lock.
    """
    with (folder / NAME).open("a+") as file:
        if not take(file, folder):
            raise OutputError(f"{folder} is in use by {_holder(folder / NAME)}. Wait for it, stop it, or choose another RUN_NAME.")
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
        file.flush()
        yield


def take(file: IO[Any], folder: Path) -> bool:
    """Whether `file`, in `folder`, is this process's now; not where another one holds it.

    Raises OutputError on a file system without locks: two jobs could then write the same files.
    """
    keep_from_children(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OSError(error.errno, error.strerror, file.name) from error
        raise OutputError(
            f"{folder}: its file system has no locks ({error.strerror}), so nothing would keep a second job out. Mount it with "
            "locks (NFS: version 4; Lustre: flock), or choose a folder on another one."
        ) from None
    return True


@contextlib.contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Holds the file at `path` for this process, once no other one does."""
    with path.open("a") as file:
        keep_from_children(file)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
