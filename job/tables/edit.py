"""A file of a table -> the same file with further columns."""

from collections.abc import Callable
from pathlib import Path

from job.tables.added_columns import AddedColumns, Notes
from job.tables.delimited_edit import edit_delimited
from job.tables.json_edit import edit_json
from job.tables.parquet_edit import edit_arrow, edit_parquet
from job.tables.repack import repack
from job.tables.sheet_edit import edit_workbook
from job.tables.unpack import unpacked
from job.tables.workbook import table_place


def edit(source: Path, target: Path, added: AddedColumns, sheet: str | None) -> Notes:
    """Writes `source` with `added` to `target`, compressed if it is. sheet: the one that is read of a workbook."""
    with unpacked(str(source), source) as inner:
        editor = EDITORS[inner.suffix.lower()]
        if inner == source:
            return editor(source, target, added, sheet)
        edited = inner.with_name(f"edited-{inner.name}")
        notes = editor(inner, edited, added, sheet)
        repack(edited, source, target)
        return notes


def _edit_workbook(source: Path, target: Path, added: AddedColumns, sheet: str | None) -> Notes:
    part, header = table_place(str(source), source, sheet)
    return edit_workbook(source, target, part, header, added)


Edit = Callable[[Path, Path, AddedColumns, str | None], Notes]
"""Writes a source with further columns to a target; the last is the sheet that is read of a workbook."""
EDITORS: dict[str, Edit] = {
    **dict.fromkeys((".xlsx", ".xlsm"), _edit_workbook),
    **dict.fromkeys(
        (".csv", ".tsv", ".tab", ".txt", ".dat"), lambda source, target, added, _: edit_delimited(source, target, added)
    ),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), lambda source, target, added, _: edit_json(source, target, added)),
    ".parquet": lambda source, target, added, _: edit_parquet(source, target, added),
    **dict.fromkeys((".arrow", ".feather"), lambda source, target, added, _: edit_arrow(source, target, added)),
}
