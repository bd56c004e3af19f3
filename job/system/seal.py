"""Folders that are whole or do not count: sealed by a manifest written last, with the sha256 of every file.

Checkpoints, prepared data, adapters and merged models are. Files whose names begin with a dot (.DS_Store, what git, the hub and NFS
leave) are no part of a folder.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from job.system.durable import flush_to_disk, make_readable, write_json

MANIFEST = "manifest.json"
CHUNK_BYTES = 2**20
CHANGED, MISSING, ADDED = "is not what was written", "is missing", "is none of the files that were written"
"""What a file may have against its manifest."""
GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def seal(folder: Path) -> None:
    """Puts every file of `folder` on the disk, and then the manifest: from now on the folder counts.

    Files get the modes that others of this person have; safetensors writes with 0600.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    names = _files(folder)
    for name in names:
        make_readable(folder / name)
        flush_to_disk(folder / name)
    for within in {(folder / name).parent for name in names} - {folder}:
        flush_to_disk(within)
    seal_files(folder, names)
    flush_to_disk(folder.parent)


def seal_files(folder: Path, names: Iterable[str]) -> None:
    """Writes a manifest of these files of `folder` alone, which are on the disk."""
    write_json(folder / MANIFEST, {name: sha256(folder / name) for name in names})


def seal_again(folder: Path, name: str) -> None:
    """Takes one file of a sealed `folder` that was replaced on purpose into its manifest. The others stay as they were sealed."""
    write_json(folder / MANIFEST, _read(folder) | {name: sha256(folder / name)})


def damage(folder: Path, complete: bool = True) -> dict[str, str]:
    """File -> what is wrong with it, of a sealed `folder`; empty where it is as it was sealed.

    complete: whether its manifest names all of its files, so that others are ADDED.
    Raises OSError where a file that is there cannot be read: that is no word on what is in it.
    """
    try:
        sealed = _read(folder)
    except GONE:
        return {MANIFEST: MISSING}
    except ValueError:
        return {MANIFEST: CHANGED}
    found = {name: _compare(folder / name, wanted) for name, wanted in sealed.items()}
    added = {name: ADDED for name in _files(folder) if name not in sealed} if complete else {}
    return {name: what for name, what in found.items() if what} | added


def is_whole(folder: Path) -> bool:
    """Whether `folder` is sealed, can be read, and holds what was sealed, no file more or less."""
    try:
        return not damage(folder)
    except OSError:
        return False


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _files(folder: Path) -> list[str]:
    """The files of `folder` that are sealed, by their paths in it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    unfinished = f"{MANIFEST}.partial"
    return sorted(
        str(path) for path in found if str(path) not in (MANIFEST, unfinished) and not any(part[0] == "." for part in path.parts)
    )


def _read(folder: Path) -> dict[str, str]:
    """The manifest. Raises OSError, or ValueError for one that is damaged."""
    sealed = json.loads((folder / MANIFEST).read_text())
    if not isinstance(sealed, dict) or not sealed:
        raise ValueError(f"{folder / MANIFEST} holds no files")
    return sealed


def _compare(path: Path, wanted: str) -> str | None:
    """What `path` has against the sha256 that it was sealed with."""
    try:
        return None if sha256(path) == wanted else CHANGED
    except GONE:
        return MISSING
