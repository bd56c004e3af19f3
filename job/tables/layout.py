"""How a text table is laid out: what separates its cells and how they are quoted, read off its first rows."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import dropwhile, islice
from typing import Any

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
WHOLE_LINE = "\0"
"""The delimiter of a table of one column, whose cells may hold all others: no text has it (see `encodings`)."""
QUOTES = ("doubled", "backslash", "none")
"""How a double quote within a cell is written; "none" where quotes mean nothing."""
SAMPLE_ROWS, SAMPLE_LETTERS = 200, 2**20
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\t;,|]*(\r\n|\n|\r|$)', re.IGNORECASE)
"""The first line that tells Excel the delimiter, and that Excel doesn't show."""


@dataclass(frozen=True)
class Layout:
    """How the rows of a text are to be read."""

    delimiter: str
    quotes: str = "doubled"
    """One of `QUOTES`."""
    spaces: bool = False
    """Whether spaces behind a delimiter are no part of the cell."""
    skipped: int = 0
    """Letters in front of the header: a line "sep=;"."""

    def rows(self, text: str, strict: bool = True) -> Iterator[list[str]]:
        """The cells of each row, none for a blank line. strict: raises csv.Error where the quotes are not right."""
        csv.field_size_limit(2**31 - 1)
        text = text[self.skipped :]
        if self.quotes == "backslash":
            text = _with_doubled_quotes(text)
        how: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if self.quotes == "none" else {}
        lines = (line.removeprefix("\ufeff") for line in io.StringIO(text, newline=""))  # each of several files began with one
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.spaces, strict=strict, **how)

    def sample(self, text: str) -> list[list[str]]:
        """The first rows that are not blank."""
        rows = list(islice(self.rows(text[:SAMPLE_LETTERS], strict=False), SAMPLE_ROWS))
        if len(text) > SAMPLE_LETTERS and 1 < len(rows) < SAMPLE_ROWS:
            rows.pop()  # it may be cut
        return [row for row in rows if any(map(str.strip, row))]


def _with_doubled_quotes(text: str) -> str:
    r"""`text` with `""` for `\"`, and with `\` for `\\` where no backslash stands for itself alone."""
    if re.search(r'(?<!\\)\\(?:\\\\)*(?:[^"\\]|$)', text):
        return text.replace('\\"', '""')
    return re.sub(r'\\(["\\])', lambda found: '""' if found[1] == '"' else found[1], text)


def find_layout(text: str, suffix: str) -> Layout:
    """The layout in which the rows of `text` have as many cells as its header. suffix: of the file; a .tsv has tabs."""
    if told := SEPARATOR_LINE.match(text):
        return _finish(Layout(told[1], skipped=told.end()), text)
    preferred = "\t" if suffix in (".tsv", ".tab") else ","
    order = sorted(DELIMITERS, key=lambda delimiter: delimiter != preferred)
    scores = {delimiter: _evenness(text, delimiter) for delimiter in order}
    best = max(scores, key=lambda delimiter: scores[delimiter])
    if suffix in (".tsv", ".tab") and scores["\t"][0]:
        best = "\t"
    if not text.strip(" \r\n" + "".join(DELIMITERS)):
        best = preferred
    elif not scores[best][0]:
        best = next((delimiter for delimiter in order if _are_cells(text, delimiter)), WHOLE_LINE)
    return _finish(Layout(best), text)


def is_table(text: str) -> bool:
    """Whether a .txt is a table and not a line a row: all its rows, with tabs most, have as many cells as its header has names."""
    if SEPARATOR_LINE.match(text):
        return True
    layout = find_layout(text, ".txt")
    rows = layout.sample(text)
    if len(rows) < 2 or len(rows[0]) < 2 or not all(map(str.strip, rows[0])):
        return False
    return _is_even(rows) or (layout.delimiter == "\t" and _evenness(text, "\t")[1] > 0.5)


def _evenness(text: str, delimiter: str) -> tuple[bool, float, bool, int]:
    """Whether the header has several cells, the share of the rows that have as many, whether no space follows, how many."""
    samples = [Layout(delimiter, quotes).sample(text) for quotes in ("doubled", "backslash")]
    columns = len(samples[0][0]) if samples[0] else 0
    spaced = any(cell.startswith(" ") for row in samples[0] for cell in row)  # as behind a comma in a sentence
    return columns > 1, max(map(_share, samples)), not spaced, columns


def _is_even(rows: list[list[str]]) -> bool:
    """Whether all rows have as many cells and no cell begins with a space, as behind a comma in a sentence."""
    return len({len(row) for row in rows}) == 1 and not any(cell.startswith(" ") for row in rows for cell in row)


def _are_cells(text: str, delimiter: str) -> bool:
    """Whether the rows below one or more of one cell have several: a title stands where the header should be."""
    rows = list(dropwhile(lambda row: len(row) == 1, Layout(delimiter).sample(text)))
    return len(rows) > 1 and len(rows[0]) > 1 and _is_even(rows)


def _finish(layout: Layout, text: str) -> Layout:
    """`layout`, with what the cells of its first rows say about spaces and quotes."""
    rows = layout.sample(text)
    spaced = replace(layout, spaces=True)
    if any(re.match(' +"', cell) for row in rows for cell in row) and _share(spaced.sample(text)) >= _share(rows):
        layout = spaced
    if layout.delimiter == "\t" and any("\t" in cell for row in rows for cell in row):
        lines = replace(layout, quotes="none").sample(text)
        if _share(lines) == 1:  # each line is a row, and quotes join some: many programs that write tabs quote nothing
            return replace(layout, quotes="none")
    return layout


def _share(rows: list[list[str]]) -> float:
    """The share of `rows` that have as many cells as the first."""
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows) if rows else 0
