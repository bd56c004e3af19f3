"""Compressed files: .gz, .bz2, .xz, and a .zip of one table."""

import bz2
import gzip
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from job.errors import DataError, first_line

OPENERS: dict[str, Callable[[Path, str], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
NO_TABLES = {"readme", "license", "licence", "notice", "changelog", "requirements"}
"""Text files that explain the others."""
COMPRESSED = (*OPENERS, ".zip")


def inner_name(path: Path) -> str:
    """The name without the ending of a compressed file: "a.csv" of "a.csv.gz", and of any other file its own."""
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


@contextmanager
def unpacked(where: str, path: Path) -> Iterator[Path]:
    """`path`, or what is in it where it is compressed, on disk for as long as the context lasts. Raises DataError."""
    if path.suffix.lower() not in COMPRESSED:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lora-job-") as folder:
        try:
            inner = _unpack(where, path, Path(folder))
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError) as error:
            raise DataError(_damaged(where, path, error)) from None
        except OSError as error:
            if error.errno:
                raise
            raise DataError(_damaged(where, path, error)) from None
        yield inner


def _unpack(where: str, path: Path, folder: Path) -> Path:
    if path.suffix.lower() != ".zip":
        with OPENERS[path.suffix.lower()](path, "rb") as packed:
            return _copy(packed, folder / path.stem)
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if is_table_member(member)]
        if len(members) != 1:
            names = ", ".join(member.filename for member in members[:5]) or "nothing to read"
            raise DataError(
                f"{where}: {path.name} holds {ascii(names)[1:-1]}; a zip may hold one table. Unpack it, and name the folder."
            )
        with archive.open(members[0]) as packed:
            return _copy(packed, folder / PurePosixPath(members[0].filename.replace("\\", "/")).name)


def is_table_member(member: zipfile.ZipInfo) -> bool:
    """Whether what a zip holds is a table: no folder, nothing of the system, no text that explains the others."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    return not member.is_dir() and is_table_name(path) and path.stem.lower() not in NO_TABLES


def is_table_name(path: PurePosixPath) -> bool:
    """Whether a file is a person's, not one that a system or an office program leaves beside it."""
    return not any(part.startswith((".", "~$", "__")) for part in path.parts) and path.name.lower() not in (
        "thumbs.db",
        "desktop.ini",
    )


def _copy(packed: IO[bytes], to: Path) -> Path:
    with to.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)
    return to


def _damaged(where: str, path: Path, error: Exception) -> str:
    return f"{where}: {path.name} cannot be unpacked ({first_line(error)}). Pack it once more, or give it unpacked."
