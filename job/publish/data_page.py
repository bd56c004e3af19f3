"""A look at the data for a person: `data.html`, one file that opens offline, and the same for a terminal."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from job.publish.report import render
from job.system.durable import write_text

TEMPLATE = "data.html.j2"
BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Characters that turn the text around them, and the page's own words with it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Lines of cells below a head; the first of a line is text, the others are numbers."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ShownRow:
    """A row as the model sees it."""

    name: str
    pieces: tuple[tuple[str, str], ...]
    """What the model does with it, "reads" or "writes", and the text."""


@dataclass(frozen=True)
class DataPage:
    """What is shown, all of it text."""

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    """Names and texts."""
    tables: tuple[Table, ...]
    rows: tuple[ShownRow, ...]


def write_data_page(path: Path, page: DataPage, plots: Sequence[dict[str, object]]) -> None:
    """Writes the page. plots: of `report.plot`."""
    write_text(path, render(TEMPLATE, {"page": cleaned(page), "plots": plots}))


def cleaned(value: T) -> T:
    """`value` with each text in it `visible`."""
    found: Any = value
    if isinstance(value, str):
        found = visible(value)
    elif isinstance(value, tuple):
        found = tuple(map(cleaned, value))
    else:
        found = replace(found, **{field.name: cleaned(getattr(value, field.name)) for field in fields(found)})
    return found


def visible(text: str) -> str:
    r"""`text` with control characters as `\x1b`, but for line breaks: nothing in it moves a cursor or turns a line around."""
    return "".join(letter if letter == "\n" or not _is_control(letter) else _escaped(letter) for letter in text)


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or ord(letter) in BIDI_CONTROLS


def _escaped(letter: str) -> str:
    return {"\t": r"\t", "\r": r"\r"}.get(letter) or (f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{ord(letter):04x}")
