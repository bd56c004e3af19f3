"""Names of columns: those that a table lacks or has twice, and the one that a person means."""

import re
from collections import Counter
from collections.abc import Sequence

from job.data.sheet import column_letter


def unique_names(header: Sequence[str | None]) -> list[str]:
    """A name for each column: its own; its letter where it has none; "name (2)" where another of that name stands before it."""
    given = {name for name in header if name}
    taken: set[str] = set()
    copies: Counter[str] = Counter()
    names = []
    for column, own in enumerate(header):
        wanted = name = own if own and own.strip() else column_letter(column)
        copies[wanted] += 1
        while name in taken or (name != own and name in given):
            copies[wanted] = max(copies[wanted], 2)
            name = f"{wanted} ({copies[wanted]})"
            copies[wanted] += 1
        taken.add(name)
        names.append(name)
    return names


def columns_meant(names: Sequence[str], wanted: str) -> list[str]:
    """The columns that `wanted` may mean: the one named so, else those whose names differ in spaces and case alone.

    Two where a table has the name twice, as "name" and "name (2)": whoever asked has to say which.
    """
    found = [name for name in names if name == wanted] or [name for name in names if _plain(name) == _plain(wanted)]
    return found + [name for name in names if any(name == f"{one} (2)" for one in found)]


def _plain(name: str) -> str:
    return " ".join(re.sub("[\u200b\u2060\ufeff]", "", name).split()).casefold()
