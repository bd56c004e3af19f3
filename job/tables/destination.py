"""Where a table with further columns goes, and whether it can be written there."""

import logging
from dataclasses import dataclass
from pathlib import Path

from job.errors import DataError, OutputError
from job.system.folders import ensure_writable
from job.tables.content_kind import describe_unreadable
from job.tables.edit import EDITORS
from job.tables.places import Found, find_files, locate, place_errors
from job.tables.read import SUFFIXES as READABLE
from job.tables.read import is_saved
from job.tables.table import Source
from job.tables.unpack import COMPRESSED, inner_name
from job.tables.write import SUFFIXES

log = logging.getLogger(__name__)

NEW_FORMAT = {".xls": ".xlsx", ".ods": ".xlsx"}
"""What takes the place of formats that are read and cannot be written."""


@dataclass(frozen=True)
class Destination:
    """Where a table with further columns goes."""

    path: Path
    """A file, or the folder of several."""
    files: tuple[tuple[Path, Path], ...]
    """The files of the table and where each comes back; none where one new table is written."""
    found: tuple[tuple[Path, int, int], ...]
    """The files of the table, with the time and the size that they had."""

    @property
    def suffix(self) -> str:
        """The format of a new table."""
        return self.path.suffix.lower()

    @property
    def folder(self) -> Path:
        """An existing folder that is written to."""
        return self.path.parent

    def check_unchanged(self, kept: Path) -> None:
        """Raises DataError if a file changed since it was read. kept: where its answers are."""
        if changed := [path for path, *before in self.found if _state(path)[1:] != tuple(before)]:
            raise DataError(
                f"FILE={changed[0]}: it changed while its rows were answered. Run the same command again; the answers are kept in "
                f"{kept} and serve as long as the inputs are the same."
            )


def _state(path: Path) -> tuple[Path, int, int]:
    state = path.stat() if path.exists() else None
    return path, state.st_mtime_ns if state else 0, state.st_size if state else 0


def choose_destination(source: Source, wanted: str | None, default: Path) -> Destination:
    """Where the table of `source` goes: to `wanted`, else into the folder `default`, under its own name.

    Raises OutputError where nothing can be written there, InputMissing where there is no table.
    """
    found = _find(source)
    files = [path for paths in found.parts.values() for path in paths] if found else []
    if found and len(files) > 1 and (wanted is None or Path(wanted).suffix.lower() not in SUFFIXES):
        folder = Path(wanted) if wanted else default / (found.folder or Path()).resolve().name
        path, pairs = folder, tuple((path, folder / found.relative(path)) for path in files)
    elif len(files) == 1:
        if wanted and found and found.folder and not Path(wanted).suffix:
            wanted += "/"
        path, pairs = _of_one(files[0], wanted, default)
    else:
        name = f"{(found.folder if found and found.folder else Path(source.location)).name}.jsonl"
        path, pairs = _file(wanted, name) if wanted else default / name, ()
    destination = Destination(path, pairs, tuple(map(_state, files)))
    check_destination(destination)
    return destination


def _find(source: Source) -> Found | None:
    """The files of a table; None for what is saved by `datasets` or on the hub."""
    with place_errors(str(source)):
        folder, _ = locate(str(source), source.location)
        if folder and is_saved(folder):
            return None
        return find_files(str(source), source.location, READABLE)


def _of_one(source: Path, wanted: str | None, default: Path) -> tuple[Path, tuple[tuple[Path, Path], ...]]:
    inner = Path(inner_name(source))
    if inner.suffix.lower() not in READABLE and source.suffix.lower() != ".zip":
        raise DataError(f"FILE={source}: {describe_unreadable(source, READABLE)}")
    new = NEW_FORMAT.get(inner.suffix.lower())
    own_name = f"{inner.stem}{new}" if new else source.name
    if new and (wanted is None or Path(wanted).suffix == ""):
        log.warning("%s: %s files cannot be written; the answers go to a new %s", source.name, inner.suffix, new)
    path = _file(wanted, own_name) if wanted else default / own_name
    can_be_edited = _kind(source) == _kind(path) and (_kind(path)[0] in EDITORS or _kind(path)[1] == ".zip")
    return path, ((source, path),) if can_be_edited else ()


def _file(wanted: str, name: str) -> Path:
    """The file that a person named; in it, where that is a folder."""
    path = Path(wanted)
    return path / name if path.is_dir() or wanted.endswith("/") else path


def _kind(path: Path) -> tuple[str, str]:
    """The format, and how it is compressed."""
    inner = Path(inner_name(path)).suffix.lower()
    packed = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    return (".zip" if packed == ".zip" else {".ndjson": ".jsonl"}.get(inner, inner)), packed


def check_destination(destination: Destination) -> None:
    """Raises OutputError for formats that cannot be written, for the person's own files, and for places that cannot be written."""
    targets = [target for _, target in destination.files] or [destination.path]
    for source, target in destination.files:
        suffix = Path(inner_name(source)).suffix.lower()
        if suffix not in EDITORS and source.suffix.lower() != ".zip":
            raise OutputError(f"{target}: cannot write {suffix}. Name one file for all rows, such as answers.xlsx.")
    if not destination.files and destination.suffix not in SUFFIXES:
        ending = destination.suffix or "a file without an ending"
        raise OutputError(f"{destination.path}: cannot write {ending}. Use one of {', '.join(SUFFIXES)}.")
    real = {source.resolve() for source, *_ in destination.found}
    if own := next((target for target in targets if target.resolve() in real), None):
        raise OutputError(f"{own}: the answers would overwrite the questions. Name another file.")
    for target in targets:
        ensure_writable(target.parent, str(target))
        if target.is_dir():
            raise OutputError(f"{target}: a folder of that name is there. Choose another place.")
