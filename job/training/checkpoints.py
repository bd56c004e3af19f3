"""Checkpoints that are whole or not there: sealed by a manifest written last, with the sha256 of every file."""

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path

from job.system.durable import flush_to_disk, make_readable, write_json

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
STEP, BEST = "checkpoint", "best"
"""Kinds of checkpoints, by their names: what training resumes from, and the adapter of the best evaluation so far."""
KEPT = 2
CHUNK_BYTES = 2**20


def seal(folder: Path) -> None:
    """Puts every file of `folder` on the disk, and then the manifest: from now on the checkpoint counts.

    Files get the modes that others of this person have; safetensors writes with 0600.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(MANIFEST))
    for path in files:
        make_readable(path)
        flush_to_disk(path)
    hashes = {str(path.relative_to(folder)): _sha256(path) for path in files}
    write_json(folder / MANIFEST, hashes)
    flush_to_disk(folder.parent)


def is_whole(folder: Path) -> bool:
    """Whether `folder` is sealed and holds what was sealed, no file more or less."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text())
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
        return there == hashes.keys() and all(_sha256(folder / name) == wanted for name, wanted in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def newest_whole(folder: Path, kind: str = STEP) -> Path | None:
    """The newest checkpoint of this kind in `folder` that is whole; newer ones that are not are set aside as torn-checkpoint-N."""
    for checkpoint in sorted(checkpoints_of(folder, kind), key=step_of, reverse=True):
        if is_whole(checkpoint):
            return checkpoint
        aside = checkpoint.with_name(f"torn-{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        log.warning("%s is incomplete, as after a kill while it was written: set aside as %s", checkpoint, aside.name)
    return None


def rotate(folder: Path) -> None:
    """Deletes all checkpoints in `folder` but the newest KEPT, and what was set aside."""
    for checkpoint in [*sorted(checkpoints_of(folder, STEP), key=step_of)[:-KEPT], *folder.glob("torn-*")]:
        shutil.rmtree(checkpoint, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was taken after."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints_of(folder: Path, kind: str) -> list[Path]:
    """The checkpoints of this kind in `folder`, whole or not, in no order."""
    return [path for path in folder.glob(f"{kind}-*") if path.is_dir() and re.fullmatch(rf"{kind}-\d+", path.name)]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
