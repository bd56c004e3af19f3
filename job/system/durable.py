"""Files that are there in whole or not at all, also after a power cut, and readable by whom this person's files are for."""

import errno
import json
import os
import shutil
from pathlib import Path

from job.errors import DiskFull

NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""What file systems answer that keep a folder's list of files by themselves (CIFS, some of FUSE)."""


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
    """The same with a folder, whose files are on the disk: `job.system.seal` puts them there."""
    shutil.rmtree(folder, ignore_errors=True)
    replace_durably(partial, folder)


def delete_folder(folder: Path) -> None:
    """Deletes `folder`. Raises OSError that names it: the one of `shutil.rmtree` names a file without its folder."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def copy_files(folder: Path, target: Path) -> None:
    """Puts the files of `folder` into `target`, whatever is there; their contents alone, as a mounted bucket takes nothing else."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def flush_to_disk(path: Path) -> None:
    """Returns when the content of `path`, a file or a folder's list of files, is on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # not ours to list: above OUTPUT_DIR
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED or not path.is_dir():
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def make_readable(path: Path) -> None:
    """Gives a file the mode that others of this person have; safetensors writes with 0600."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


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
    try:
        partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(partial)) from error
    return partial
