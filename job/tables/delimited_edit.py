"""A text table with further columns: each row's own text with cells behind it, in the same layout and encoding."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from job.tables.added_columns import AddedColumns, Cell, Notes
from job.tables.delimited import USUAL, read_cells
from job.tables.encodings import decode, encode
from job.tables.formulas import mark
from job.tables.layout import WHOLE_LINE, Layout, find_layout, is_table

LINE_END = re.compile(r"(\r\n|\n|\r)?\Z")


def edit_delimited(source: Path, target: Path, added: AddedColumns) -> Notes:
    """Writes the text table `source` with `added` to `target`; a text file of a line a row gets the answers alone, a line each."""
    decoded = decode(str(source), source.name, source.read_bytes())
    suffix, text = source.suffix.lower(), decoded.text
    if suffix in USUAL or is_table(text):
        layout, rows = read_cells(str(source), text, find_layout(text, suffix))
        added.check_places(number for number, _ in rows)
        edited = text[: layout.skipped] + "".join(_with_cells(text, layout, rows[0][0], USUAL.get(suffix, ","), added))
    else:
        edited = "".join(_answers(text, added))
    content, told = encode(edited, decoded)
    target.write_bytes(content)
    return (told,) if told else ()


def _with_cells(text: str, layout: Layout, header: int, usual: str, added: AddedColumns) -> Iterator[str]:
    """Each row's text with its new cells. header: number of the row that names the columns."""
    delimiter = usual if layout.delimiter == WHOLE_LINE else layout.delimiter
    width, always = max(map(len, layout.rows(text))), False
    for number, (row, own) in enumerate(_raw_rows(text, layout), 1):
        cells = added.names if number == header else added.rows.get(number)
        if cells is None:
            yield own
            continue
        body, end = own[: LINE_END.search(own).start()], LINE_END.search(own).group()  # type: ignore[union-attr]
        if layout.delimiter == WHOLE_LINE and not body.lstrip().startswith('"'):
            body = _quoted(body, delimiter, layout.quotes)
        padding = [""] * (width - len(row))
        if number == header:
            always = body.endswith('"') and layout.quotes != "none"
        yield delimiter.join([body, *padding, *(_cell(cell, delimiter, layout.quotes, always) for cell in cells)]) + end


def _raw_rows(text: str, layout: Layout) -> Iterator[tuple[list[str], str]]:
    """The cells of each row, and its text with its line end."""
    lines, reader, read = list(io.StringIO(text[layout.skipped :], newline="")), layout.rows(text), 0
    for row in reader:
        yield row, "".join(lines[read : reader.line_num])  # type: ignore[attr-defined]
        read = reader.line_num  # type: ignore[attr-defined]


def _cell(cell: Cell, delimiter: str, quotes: str, always: bool) -> str:
    """A new cell as it stands in the file. always: whether to quote what does not need it, as the cells beside it are."""
    if cell is None:
        return ""
    return _quoted(mark(cell) if isinstance(cell, str) else repr(cell), delimiter, quotes, always and isinstance(cell, str))


def _quoted(text: str, delimiter: str, quotes: str, always: bool = False) -> str:
    if quotes == "none":
        return re.sub(r"[\t\r\n]+", " ", text)
    if not always and not re.search(f'["\r\n{re.escape(delimiter)}]|^ | $', text):
        return text
    escaped = text.replace('"', '""') if quotes == "doubled" else text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _answers(text: str, added: AddedColumns) -> Iterator[str]:
    """The first of the new columns, a line for each line of `text`."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        cells = added.rows.get(number)
        answer = cells[0] if cells else None
        yield " ".join(str("" if answer is None else answer).split()) + LINE_END.search(line).group()  # type: ignore[union-attr]
