"""Which files and splits are for training and which for the evaluation, by their names, as `datasets` tells them apart."""

import re
from collections.abc import Sequence
from pathlib import PurePath

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Of `datasets.data_files.SPLIT_KEYWORDS`."""
PART_OF = {word: part for part, words in KEYWORDS.items() for word in words}
WORD = re.compile(rf"(?:^|(?<=[-._ 0-9]))(?:{'|'.join(sorted(PART_OF, key=len, reverse=True))})(?=[-._ 0-9]|$)", re.IGNORECASE)
"""A keyword that stands alone between the separators that `datasets` knows."""
HELD_OUT = ("validation", "test")
"""Parts that the evaluation is made on, the first that is there."""
ALL = "all"
"""The split that is every row, as `datasets` calls it."""


def part_of(name: str) -> str | None:
    """ "train", "validation" or "test", of which the first word of a name that is one tells; None where none is."""
    found = WORD.search(name)
    return PART_OF[found.group().lower()] if found else None


def part_of_path(path: PurePath) -> str | None:
    """The part of a file, given from the folder that was named: by the innermost folder that tells one, else by its name."""
    return next((part for folder in reversed(path.parts[:-1]) if (part := part_of(folder))), None) or part_of(path.name)


def sort_into_parts(paths: Sequence[PurePath]) -> dict[str, list[PurePath]]:
    """Paths by their part. Those that tell none are "train" where no other is, else "other"; all are, where all tell the same."""
    found = {path: part_of_path(path) for path in paths}
    if len(set(found.values())) == 1:
        return {"train": list(paths)}
    rest = "other" if "train" in found.values() else "train"
    parts: dict[str, list[PurePath]] = {}
    for path, part in found.items():
        parts.setdefault(part or rest, []).append(path)
    return parts


def split_column(columns: Sequence[str]) -> str | None:
    """The column that is called as one that tells the part of a row usually is; None where there is none."""
    return next((name for name in columns if name.strip().lower() in ("split", "subset", "partition")), None)


def choose_splits(names: Sequence[str], wanted: str) -> tuple[str | None, str | None]:
    """Of the splits that there are: the one that is wanted, and the one that is held out from its training.

    "test" is "validation" where there is no test. Only "train" has something held out, and "train_sft" has "test_sft".
    """
    if wanted not in names:
        return ("validation" if wanted == "test" and "validation" in names else None), None
    if part_of(wanted) != "train":
        return wanted, None
    rest = WORD.sub("", wanted)
    beside = {part_of(name): name for name in reversed(names) if WORD.sub("", name) == rest}
    return wanted, next((beside[part] for part in HELD_OUT if part in beside), None)
