"""What a file system refuses, as an error that says what to do, also where a library wraps the system's error into its own."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from job.errors import DiskFailed, DiskFull, JobError, OutputError, causes
from job.system.out_of_memory import is_out_of_memory

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
CANNOT_WRITE = (*NO_ROOM, errno.EROFS)
NEARLY_FULL_BYTES = 2**20
AGAIN = "and run the same command again."
MEANINGS: dict[int, tuple[type[JobError], str]] = {
    errno.EDQUOT: (DiskFull, f"the quota of uid {os.getuid()} is used up. Free some, or have it raised, {AGAIN}"),
    errno.EFBIG: (OutputError, "a file would be larger than this process may write. Raise the limit (`ulimit -f`)."),
    errno.EIO: (DiskFailed, f"the disk fails (Input/output error). Look into `dmesg`, mend or change the disk, {AGAIN}"),
    errno.EMFILE: (OutputError, "too many files are open. Raise the limit: `ulimit -n 4096`."),
    errno.EROFS: (OutputError, "on a read-only file system, or one that became so as its disk failed. Mount it writable."),
    errno.ESTALE: (DiskFailed, f"the network file system lost it (Stale file handle). Mount it anew, {AGAIN}"),
}
"""What these mean whatever file they are about."""
WRAPPED = re.compile(r"\(os error (\d+)\)|\[[Ee]rrno (\d+)\]|: [A-Z][\w/ -]+ \((\d+)\)$")
"""How errors of Rust, Arrow and torch name the system's."""


def file_system_error(error: BaseException, folders: Mapping[str, Path]) -> JobError | None:
    """What `error` means where a file system is its cause; None where it is a person's mistake or a bug.

    folders: where this process writes, by the variables that say so.
    """
    if isinstance(error, JobError):
        return None
    number, file = _cause(error)
    full = [variable for variable, folder in {**folders, "TMPDIR": Path(tempfile.gettempdir())}.items() if _is_full(folder)]
    if number is None and "OUTPUT_DIR" in full and isinstance(error, OSError | RuntimeError) and not is_out_of_memory(error):
        number = errno.ENOSPC  # some libraries do not say why
    variable = next((name for name, folder in folders.items() if file and _is_inside(file, folder)), None)
    if number in (None, errno.ENOMEM) or not (variable or number in (*MEANINGS, *NO_ROOM) or (number == errno.EINVAL and not file)):
        return None  # a write or a sync that is refused does not say of which file
    place = f"{variable}: {file}" if variable else file or " or ".join(full or folders)
    if number in MEANINGS:
        kind, meaning = MEANINGS[number]
        return kind(f"{place}: {meaning}")
    if number == errno.ENOSPC:
        return DiskFull(f"{place}: {_missing_room([folders[variable]] if variable else folders.values())}")
    if number == errno.ENOENT:
        return OutputError(f"{place} is gone, deleted while the job ran. Bring it back, or run the same command again.")
    return OutputError(f"{place}: the file system refuses this ({os.strerror(number)}). Choose a folder on another one.")


@contextmanager
def refusals_as_errors(folders: Mapping[str, Path]) -> Iterator[None]:
    """Raises what `file_system_error` makes of an error that is raised inside."""
    try:
        yield
    except Exception as error:
        if refused := file_system_error(error, folders):
            raise refused from error
        raise


def error_number(error: BaseException) -> int | None:
    """The system's number of what went wrong, also where a library wraps it; None where the system did not refuse anything."""
    return _cause(error)[0]


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether `error`, raised while something was written to `folder`, means that no space is left there."""
    number = error_number(error)
    return number in NO_ROOM or (number is None and isinstance(error, OSError | RuntimeError) and _is_full(folder))


def _cause(error: BaseException) -> tuple[int | None, str | None]:
    """The first number in the chain of `error`, and the file that it is about, if it says so."""
    for one in causes(error):
        if isinstance(one, OSError) and (isinstance(one, ConnectionError | TimeoutError) or type(one).__module__ != "builtins"):
            continue  # of the network: TLS has numbers of its own
        if isinstance(one, OSError) and one.errno and one.errno > 0:
            return one.errno, None if one.filename is None else os.fsdecode(one.filename)
        if found := WRAPPED.search(str(one)):
            return int(found[1] or found[2] or found[3]), None
        if isinstance(one, FileNotFoundError):  # safetensors' own, without a number
            return errno.ENOENT, str(one).rpartition(": ")[2]
        if os.strerror(errno.ENOSPC) in str(one):
            return errno.ENOSPC, None
    return None, None


def _is_inside(file: str, folder: Path) -> bool:
    return Path(os.path.abspath(file)).is_relative_to(folder.absolute())  # noqa: PTH100  no link is followed


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < NEARLY_FULL_BYTES
    except OSError:  # not there
        return False


def _missing_room(folders: Iterable[Path]) -> str:
    for folder in folders:
        if folder.exists() and (room := os.statvfs(folder)).f_files and not room.f_favail and room.f_bavail:
            return f"no room for further files (its inodes are used up). Delete small files {AGAIN}"
    return f"no space left. Free some {AGAIN}"
