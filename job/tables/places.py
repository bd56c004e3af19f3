"""Where a table is: what a person wrote -> the files that are meant, and which part each is."""

import difflib
import glob
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from job.errors import DataError, InputMissing, first_line
from job.system.file_system import CANNOT_WRITE
from job.tables.configurations import files_of_card
from job.tables.file_rows import first_of, in_quotes, printable
from job.tables.parts import sort_into_parts
from job.tables.unpack import NO_TABLES, inner_name, is_table_name

NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
"""What `datasets` writes beside its tables."""
LARGEST_COMPARED = 2**28
"""Bytes of a file that is compared with others of its size."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HUB_ID = re.compile(r"[\w-]+|[\w-][\w.-]*/[\w.-]+", re.ASCII)
"""What may name a dataset of the hub."""


@dataclass(frozen=True)
class Found:
    """The files of a table."""

    parts: dict[str, list[Path]]
    """Files by their part: "train", "validation", "test", and "other" for those that tell none beside parts that do."""
    folder: Path | None = None
    """The folder or the fixed beginning of a pattern that they were found in; None for a single file."""
    notes: tuple[str, ...] = ()

    def relative(self, path: Path) -> Path:
        """The place of one of the files below the folder."""
        return path.relative_to(self.folder) if self.folder and path.is_relative_to(self.folder) else Path(path.name)

    def name(self, path: Path) -> str:
        """What a person calls one of the files."""
        return printable(str(self.relative(path)))


@contextmanager
def place_errors(where: str) -> Iterator[None]:
    """Turns what the system says of a path, raised inside, into InputMissing; no path that is read has no room."""
    try:
        yield
    except OSError as error:
        if error.errno in CANNOT_WRITE:
            raise
        name = f" {printable(str(error.filename))}:" if error.filename else ""
        raise InputMissing(f"{where}:{name} cannot be opened: {error.strerror or first_line(error)}.") from None
    except (ValueError, RuntimeError) as error:  # a NUL in a path, an unknown ~user
        raise InputMissing(f"{where}: no path is written so ({first_line(error)}).") from None


def locate(where: str, location: str) -> tuple[Path | None, tuple[str, ...]]:
    """The file or folder that `location` names, with a note where it is written otherwise; None where none is there."""
    if location.startswith("file://"):
        location = location.removeprefix("file://")
    elif URL.match(location):
        raise InputMissing(f"{where}: addresses are not read. Download it and name the file; for the hub, name the dataset.")
    tidy = location.strip().strip("\"'")
    for written in dict.fromkeys((location, tidy, tidy.replace("\\", "/"))):
        path = Path(written).expanduser()
        if written and _exists(path):
            return path, () if written == location else (f"{printable(location)} is read as {printable(written)}.",)
    return None, ()


def _exists(path: Path) -> bool:
    """Whether something is there; OSError for what cannot be looked at."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def find_files(where: str, location: str, suffixes: Sequence[str]) -> Found | None:
    """The files that `location` means; None for what may be a dataset of the hub.

    suffixes: of the files that can be read. Raises InputMissing, which says what is there instead.
    """
    path, notes = locate(where, location)
    if path is None and glob.has_magic(location):
        pattern = str(Path(location.replace("\\", "/") if "\\" in location else location).expanduser())
        start = _fixed(Path(pattern))
        return _of_many(where, start, [Path(name) for name in glob.glob(pattern, recursive=True)], suffixes, notes)
    if path is None:
        path, notes = _without_ending(where, location, suffixes)
    if path is None:
        return None
    if path.is_dir():
        return _of_many(where, path, list(_walk(path)), suffixes, notes, has_card=(path / "README.md").is_file())
    if not path.is_file():
        raise InputMissing(f"{where}: neither a file nor a folder but a device, a pipe or a socket. Name a file.")
    return Found({"train": [path]}, notes=notes)


def _fixed(pattern: Path) -> Path:
    """The folder that a pattern begins with."""
    magic = next((place for place, part in enumerate(pattern.parts) if glob.has_magic(part)), 0)
    return Path(*pattern.parts[:magic])


def _without_ending(where: str, location: str, suffixes: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """The one file that has an ending behind `location`; None for a dataset of the hub."""
    path = Path(location.strip().replace("\\", "/")).expanduser()
    if path.is_symlink():
        raise InputMissing(f"{where}: a link to {printable(str(path.readlink()))}, which is not there. Put the file there.")
    beside = sorted(other for other in path.parent.iterdir() if not is_hidden(other)) if path.parent.is_dir() else []
    wanted = _folded(path.name)
    meant = [other for other in beside if is_readable(other, suffixes) and wanted in map(_folded, (other.name, bare_name(other)))]
    if len(meant) == 1:
        return meant[0], (f"{printable(location)} is read as {printable(meant[0].name)}.",)
    is_hub_id = HUB_ID.fullmatch(location) and path.suffix.lower() not in suffixes
    if is_hub_id and not ("/" in location and path.parent.is_dir()) and not meant:
        return None, ()
    if len(meant) > 1:
        raise InputMissing(f"{where}: no such file, but {listed([other.name for other in meant])}. Name one of them.")
    there = f" {what_is_there(path, beside, suffixes)}".rstrip()
    windows = " Paths of Windows mean nothing here." if re.match(r"[A-Za-z]:[\\/]", location) else ""
    raise InputMissing(f"{where}: no such file.{there}{windows} Check the path; in a container it begins with /data/.")


def _folded(name: str) -> str:
    """`name`, alike however its letters are encoded (a Mac writes ü as two) and whether they are capitals."""
    return unicodedata.normalize("NFC", name).casefold()


def nearest(location: str, suffixes: Sequence[str]) -> list[str]:
    """Names of files that can be read and are called nearly so, without their endings."""
    path = Path(location)
    beside = {bare_name(other): other.name for other in path.parent.iterdir() if is_readable(other, suffixes)}
    return [beside[name] for name in difflib.get_close_matches(path.name, beside, cutoff=0.7)]


def what_is_there(path: Path, beside: Sequence[Path], suffixes: Sequence[str]) -> str:
    """A sentence with the names nearest to that of `path`, of what lies beside it; else with all that can be read there."""
    near = difflib.get_close_matches(path.name[:200], [other.name for other in beside], n=5, cutoff=0.5)
    files = [other.name for other in beside if is_readable(other, suffixes) and other.is_file()]
    shown = near or files or [f"{other.name}/" for other in beside if other.is_dir()]
    return f"In {printable(str(path.parent))}/ there is {listed(shown)}." if shown else ""


def _of_many(
    where: str, start: Path, paths: list[Path], suffixes: Sequence[str], notes: tuple[str, ...], has_card: bool = False
) -> Found:
    """The readable ones of `paths`, by their parts. start: the folder that they are in."""
    seen = [path for path in paths if not is_hidden(path.relative_to(start))]
    if torn := next((path for path in seen if is_readable(path, suffixes) and path.is_symlink() and not path.exists()), None):
        raise InputMissing(f"{where}: {printable(torn.name)} is a link to a file that is not there. Put the file there.")
    files = sorted(path for path in seen if path.is_file())
    readable = [path for path in files if is_readable(path, suffixes) and bare_name(path).lower() not in NO_TABLES]
    readable = [path for path in readable if path.name.lower() not in NO_DATA]
    if not readable:
        raise InputMissing(f"{where}: no file there that ends in {', '.join(suffixes)}.")
    card = _parts_of_card(where, start, readable) if has_card else None
    parts = {}
    for part, found in (card or _parts_by_name(start, readable)).items():
        parts[part], copies = _without_copies(where, found)
        notes = (*notes, *copies)
    if left_out := [path.name for path in files if not is_readable(path, suffixes) and bare_name(path).lower() not in NO_TABLES]:
        notes = (*notes, f"{listed(left_out)}: no table, not read.")
    return Found(parts, start, notes)


def _parts_of_card(where: str, folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """The parts that a README.md among the files lists; none where it lists none."""
    card = files_of_card(where, folder) or {}
    parts = {part: [path for path in files if path in listed_] for part, listed_ in card.items()}
    return {part: found for part, found in parts.items() if found}


def _parts_by_name(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    relative: dict[PurePath, Path] = {path.relative_to(folder): path for path in files}
    return {part: [relative[name] for name in names] for part, names in sort_into_parts(list(relative)).items()}


def _without_copies(where: str, files: list[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """`files` without exact copies, and the notes on those. DataError for a table that is there in two formats."""
    sizes = Counter(path.stat().st_size for path in files)
    kept: dict[object, Path] = {}
    names: dict[Path, Path] = {}
    notes: list[str] = []
    for path in sorted(files, key=lambda path: (len(path.name), path)):  # "a.csv" before "a (1).csv"
        size = path.stat().st_size
        content = hashlib.sha256(path.read_bytes()).digest() if sizes[size] > 1 and 0 < size < LARGEST_COMPARED else path
        if same := kept.get(content):
            notes.append(f"{printable(path.name)}: the same as {printable(same.name)}, and left out.")
            continue
        if other := names.get(path.with_name(bare_name(path))):
            raise DataError(
                f"{where}: {printable(other.name)} and {printable(path.name)} look like the same table twice. "
                "Take one of them away, or name one."
            )
        kept[content] = names[path.with_name(bare_name(path))] = path
    return sorted(kept.values()), tuple(notes)


def _walk(folder: Path) -> Iterator[Path]:
    """All paths below `folder` but hidden ones; links are followed, each folder once."""
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(PurePath(name)))
        yield from (Path(root) / name for name in names)


def is_hidden(path: PurePath) -> bool:
    """Whether a system or an office program made it: `~$mine.xlsx`, `.DS_Store`, `__MACOSX`, `Thumbs.db`."""
    return not is_table_name(PurePosixPath(path if not path.is_absolute() else path.name))


def is_readable(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether its ending is one of `suffixes`, compressed or not."""
    return Path(inner_name(path)).suffix.lower() in suffixes or path.suffix.lower() == ".zip"


def bare_name(path: Path) -> str:
    """The name without any ending."""
    return Path(inner_name(path)).stem


def listed(names: Sequence[str]) -> str:
    """`"a.csv", "b.csv" and 3 more`."""
    return first_of(names, in_quotes)
