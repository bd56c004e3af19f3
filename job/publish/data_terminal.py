"""A look at the data as lines for a terminal."""

import unicodedata
from collections.abc import Iterator, Sequence

from job.publish.data_page import DataPage, ShownRow, Table, cleaned

WIDTH = 100
FIRST_LINES, LAST_LINES = 9, 3
"""That are shown of a long piece of a row."""
BOLD, WARNING, FAINT = "1", "33", "2"


def terminal_lines(page: DataPage, colour: bool) -> Iterator[str]:
    """`page` as lines of at most `WIDTH` columns. colour: whether headings and warnings are coloured."""
    page = cleaned(page)

    def styled(text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if colour else text

    for line in wrap(f"{page.title}: {page.subtitle}", WIDTH):
        yield styled(line, BOLD)
    names = max((columns(name) for name, _ in page.facts), default=0)
    for name, text in page.facts:
        yield from _beside(name, wrap(text, WIDTH - names - 4), names + 2)
    for table in page.tables:
        yield from ("", styled(table.title, BOLD), *_table(table))
    if page.warnings:
        yield from ("", styled("Before you train", BOLD))
    for warning in page.warnings:
        for line in _beside("!", wrap(warning, WIDTH - 5), 2):
            yield styled(line, WARNING)
    if page.rows:
        yield from ("", styled(f"The first {len(page.rows)} training rows, as the model sees them (⏎ is a line break)", BOLD))
    for row in page.rows:
        yield from ("", styled(row.name, FAINT), *_pieces(row))


def _pieces(row: ShownRow) -> Iterator[str]:
    for verb, text in row.pieces:
        lines = wrap(text.replace("\n", "⏎\n"), WIDTH - 10)
        if len(lines) > FIRST_LINES + LAST_LINES + 1:
            left_out = len(lines) - FIRST_LINES - LAST_LINES
            lines = [*lines[:FIRST_LINES], f"… {left_out:,} lines are not shown …", *lines[-LAST_LINES:]]
        yield from _beside(verb, lines, 8)


def _beside(name: str, lines: Sequence[str], width: int) -> Iterator[str]:
    """`lines` with `name` before the first, all indented alike."""
    for number, line in enumerate(lines or [""]):
        before = name if number == 0 else ""
        yield f"  {before}{' ' * (width - columns(before))}{line}".rstrip()


def _table(table: Table) -> Iterator[str]:
    lines = [tuple(cut(cell, WIDTH // 3) for cell in line) for line in (table.head, *table.lines)]
    widths = [max(map(columns, cells)) for cells in zip(*lines, strict=True)]
    for first, *others in lines:
        numbers = [" " * (width - columns(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join(["", first + " " * (widths[0] - columns(first)), *numbers]).rstrip()


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, broken after spaces where there are some; every character of `text` is kept."""
    lines = []
    for line in text.split("\n"):
        rest = line
        while columns(rest) > width:
            fits = len(cut(rest, width, ""))
            end = rest.rfind(" ", width // 2, fits) + 1 or fits
            lines.append(rest[:end])
            rest = rest[end:]
        lines.append(rest)
    return lines


def cut(text: str, width: int, end: str = "…") -> str:
    """The beginning of `text` that takes at most `width` columns, with `end` behind it if it is not all."""
    if columns(text) <= width:
        return text
    taken = columns(end)
    for place, letter in enumerate(text):
        taken += columns(letter)
        if taken > width:
            return text[: max(place, 1)] + end
    return text


def columns(text: str) -> int:
    """How many columns `text` takes in a terminal: two for each wide character, none for one that combines."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
