"""The columns and sheets that a person means, among those that a file has."""

import re
from collections.abc import Sequence


def find_name(names: Sequence[str], wanted: str) -> str | None:
    """The one of `names` that is `wanted`; else the one that differs from it in spaces and case alone; None where several do."""
    if wanted in names:
        return wanted
    alike = [name for name in names if _plain(name) == _plain(wanted)]
    return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    return " ".join(re.sub("[\u200b\u2060\ufeff]", "", name).split()).casefold()
