"""The ways to lay out rows in JSON: under a key, in parts, as columns, as pandas and SQuAD write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from job.errors import DataError
from job.tables.file_rows import quoted
from job.tables.parts import choose_splits, part_of

Record = tuple[int, Any]
"""A row's number, and its object."""
USUAL_KEYS = ("data", "rows", "records", "examples", "items")


@dataclass(frozen=True)
class Records:
    """Rows as they were found."""

    rows: list[Record]
    notes: tuple[str, ...] = ()
    held_out: list[Record] | None = None
    derived: bool = False
    """Whether the rows are numbered anew, because one object held several."""


def find_records(where: str, value: Any, every_part: bool = False) -> Records:
    """The rows in a JSON document. every_part: whether those for the evaluation are among them. Raises DataError without rows."""
    parts = [name for name, part in value.items() if isinstance(part, list | dict)] if isinstance(value, dict) else []
    wanted, held_out = choose_splits(parts, next((name for name in parts if part_of(name) == "train"), "train"))
    if wanted and held_out and every_part:
        filled = {name: find_records(where, value[name]) for name in parts if part_of(name) and value[name]}
        every = [row for found in filled.values() for _, row in found.rows]
        said = f"the rows under {quoted(filled)} are read, counted one after another."
        return Records(_numbered(every), (said,), derived=any(found.derived for found in filled.values()))
    if wanted and held_out:
        train, apart = find_records(where, value[wanted]), find_records(where, value[held_out])
        said = f'rows under "{wanted}" are trained on, rows under "{held_out}" are kept apart for the evaluation.'
        rest = [name for name in parts if name not in (wanted, held_out) and value[name]]
        notes = (said, f"not used: the rows under {quoted(rest)}.") if rest else (said,)
        return Records(train.rows, (*notes, *train.notes), apart.rows, train.derived)
    rows, note = _find(where, value)
    if rows is None:
        raise DataError(f'{where}: a list of objects was expected: [{{"input": "...", "output_ground_truth": "..."}}, ...].')
    if rows and all(isinstance(row, dict) and isinstance(row.get("paragraphs"), list) for row in rows):
        questions = [question for article in rows for question in _questions(article)]
        return Records(_numbered(questions), (f"SQuAD: {len(questions)} questions about {len(rows)} articles",), derived=True)
    return Records(_numbered(rows), (note,) if note else ())


def _find(where: str, value: Any, key: str | None = None) -> tuple[list | None, str | None]:
    """The rows, and a line that says where they were, if that is not plain."""
    if isinstance(value, list):
        return _of_list(value), f'rows under "{key}"' if key else None
    if not isinstance(value, dict):
        return None, None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list) and _is_rows(value["data"], list):
        return [_zip(value["columns"], row) for row in value["data"]], 'rows as pandas writes them with orient="split"'
    lists = {name: part for name, part in value.items() if isinstance(part, list)}
    if lists and not all(_is_rows(part, dict) for part in lists.values()) and len({len(part) for part in lists.values()}) == 1:
        return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)], "a list of cells a column"
    tables = {name: part for name, part in lists.items() if _is_rows(part, dict)}
    if tables and not _is_chat(tables):
        name = _choose(where, list(tables))
        return _find(where, tables[name], name)
    objects = {name: part for name, part in value.items() if isinstance(part, dict)}
    if len(objects) == 1 and any(isinstance(part, list | dict) for part in (*objects.values(),)[0].values()):
        name, inner = next(iter(objects.items()))
        return _find(where, inner, name)
    if objects and len(objects) == len(value):
        return _of_objects(objects)
    return [value] if tables or (value and not lists) else None, None


def _of_list(rows: list) -> list:
    """`rows` as objects: without the wrapping of the hub's viewer, and lists under the names in the first of them."""
    if rows and all(isinstance(row, dict) and isinstance(row.get("row"), dict) and "row_idx" in row for row in rows):
        return [row["row"] for row in rows]
    header = rows[0] if rows else None
    if isinstance(header, list) and len(rows) > 1 and _is_rows(rows, list) and all(type(name) is str for name in header):
        return [_zip(header, row) for row in rows[1:]]
    return rows


def _of_objects(objects: dict[str, dict]) -> tuple[list, str]:
    """pandas' default (a column an object, its cells by the index) or orient="index" (a row an object)."""
    inner = list(dict.fromkeys(key for part in objects.values() for key in part))
    are_columns = len(inner) > 3 * len(objects) and all(list(part) == inner for part in objects.values())
    if inner and (are_columns or all(key.isdecimal() for key in inner)):
        rows = [{name: part.get(key) for name, part in objects.items()} for key in inner]
        return rows, "an object of cells a column, as pandas writes them"
    return list(objects.values()), "an object a row, by its key"


def _questions(article: dict) -> list[dict]:
    """The questions of an article of SQuAD, each with its context."""
    found = []
    for paragraph in _objects(article["paragraphs"]):
        for question in _objects(paragraph.get("qas")):
            answers = [answer.get("text") for answer in _objects(question.get("answers"))]
            found.append(
                {"title": article.get("title"), "context": paragraph.get("context"), "question": question.get("question")}
                | {"answers": {"text": answers}, "id": question.get("id")}
            )
    return found


def _objects(part: Any) -> list[dict]:
    return [item for item in part if isinstance(item, dict)] if isinstance(part, list) else []


def _choose(where: str, keys: list[str]) -> str:
    """The key whose rows are meant. Raises DataError if that cannot be known."""
    usual = [key for key in USUAL_KEYS if key in keys]
    if len(keys) > 1 and not usual:
        raise DataError(f'{where}: there are rows under each of {quoted(keys)}. Leave one of them, or call it "data".')
    return (usual or keys)[0]


def _is_rows(part: list, kind: type) -> bool:
    return bool(part) and all(isinstance(row, kind) for row in part)


def _is_chat(lists: dict[str, list]) -> bool:
    """Whether one of `lists` is the messages of a chat: then the object around it is a row."""
    return any({"role", "content"} <= set(part[0]) or {"from", "value"} <= set(part[0]) for part in lists.values())


def _zip(names: Sequence, cells: list) -> Any:
    """A row; as it is where it has not as many cells as there are names."""
    return dict(zip(map(str, names), cells, strict=True)) if len(names) == len(cells) else cells


def _numbered(rows: list) -> list[Record]:
    return list(enumerate(rows, 1))
