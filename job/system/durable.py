"""Files that are there in whole or not at all, also after a power cut, and readable by whom this person's files are for."""

import errno
import json
import os
import shutil
from pathlib import Path

from job.errors import DiskFull

NEARLY_FULL_BYTES = 2**20


def write_json(path: Path, content: object) -> None:
    """Writes `content` to `path` in one step: a reader sees the old or the new file."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """The same with a text."""
    replace_durably(_partial(path, text), path)


def replace_durably(partial: Path, path: Path) -> None:
    """Puts what was written to `partial` at `path`, on the disk."""
    flush_to_disk(partial)
    os.replace(partial, path)
    flush_to_disk(path.parent)


def replace_folder_durably(partial: Path, folder: Path) -> None:
    """The same with a folder of files, whose modes become those that others of this person have."""
    for path in partial.iterdir():
        make_readable(path)
        flush_to_disk(path)
    shutil.rmtree(folder, ignore_errors=True)
    replace_durably(partial, folder)


def flush_to_disk(path: Path) -> None:
    """Returns when the content of `path`, a file or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_readable(path: Path) -> None:
    """Gives a file the mode that others of this person have; safetensors writes with 0600."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether `error`, raised while something was written to `folder`, means that no space is left there.

    torch and safetensors wrap the system's error into their own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return isinstance(error, OSError | RuntimeError) and shutil.disk_usage(folder).free < NEARLY_FULL_BYTES


def check_space(folder: Path, needed_bytes: float, what: str) -> None:
    """Raises DiskFull unless `needed_bytes` are free at `folder`; `what` is the part of the message before how much."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DiskFull(
            f"OUTPUT_DIR: {free / 2**30:.2f} GiB free at {folder}, {what} about {needed_bytes / 2**30:.2f}. Free some, or set "
            "OUTPUT_DIR to another disk."
        )


def _partial(path: Path, text: str) -> Path:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial
