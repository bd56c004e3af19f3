"""Compressed files with other content: .gz, .bz2, .xz, and a .zip of one table."""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from job.tables.unpack import OPENERS, is_table_name


def repack(content: Path, like: Path, target: Path) -> None:
    """Writes `content` to `target`, compressed as `like` is; other members of a zip stay as they are."""
    if opener := OPENERS.get(like.suffix.lower()):
        with content.open("rb") as plain, opener(target, "wb") as packed:
            shutil.copyfileobj(plain, packed, 2**20)
        return
    with zipfile.ZipFile(like) as old, zipfile.ZipFile(target, "w") as new:
        new.comment = old.comment
        for entry in old.infolist():
            is_table = not entry.is_dir() and is_table_name(PurePosixPath(entry.filename))
            new.writestr(entry, content.read_bytes() if is_table else old.read(entry))
