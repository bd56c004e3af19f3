"""Compressed files with other content: .gz, .bz2, .xz, and a .zip of one table."""

import shutil
import zipfile
from pathlib import Path

from job.tables.unpack import OPENERS, is_table_member


def repack(content: Path, like: Path, target: Path) -> None:
    """Writes `content` to `target`, compressed as `like` is; other members of a zip stay as they are."""
    if opener := OPENERS.get(like.suffix.lower()):
        with content.open("rb") as plain, opener(target, "wb") as packed:
            shutil.copyfileobj(plain, packed, 2**20)
        return
    with zipfile.ZipFile(like) as old, zipfile.ZipFile(target, "w") as new:
        new.comment = old.comment
        for entry in old.infolist():
            new.writestr(entry, content.read_bytes() if is_table_member(entry) else old.read(entry))
