"""Chats that are not in a column of messages yet: prompt and completion as messages, and trees of replies."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from job.data.column_mapping import AUTO, MESSAGES
from job.data.fields import first_cells, parsed
from job.tables.read import in_memory
from job.tables.table import Table

COLUMNS_OF_CHATS = (MESSAGES, "conversations", "conversation")
FLAT = ("message_id", "parent_id", "text", "role")
"""Columns of a tree that has a row for each message."""
ROLES = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class FoundChats:
    """Where a table has chats."""

    form: str
    column: str
    table: Table
    """The table with the chats in `column`."""
    sources: tuple[str, ...]
    """The columns that they are made of."""


@dataclass(frozen=True)
class _Message:
    """A message of a tree."""

    identifier: str
    parent: str | None
    role: str
    text: str
    row: int
    """Index of the table's row that it stands in."""


def find_chats(table: Table, column: str) -> FoundChats | None:
    """The chats in `column`, or where `table` has them if it is AUTO; None if there are none."""
    names = table.rows.column_names
    if column in names:
        return _in_column("chats", column, table)
    if column not in (AUTO, MESSAGES):
        return None
    usual = next((name for name in COLUMNS_OF_CHATS if name in names and _is_chat(first_cell(table, name))), None)
    if usual and column == AUTO:
        return _in_column("ShareGPT" if _is_sharegpt(first_cell(table, usual)) else "chats", usual, table)
    prompt = first_cell(table, "prompt") if "prompt" in names else None
    if _is_chat(prompt):
        return FoundChats("prompt and completion as messages", MESSAGES, _joined(table), ("prompt", "completion", "tools"))
    if set(FLAT) <= set(names):
        return FoundChats("tree of replies", MESSAGES, _paths(table, list(_flat(table))), FLAT)
    if isinstance(prompt, dict) and {"text", "role", "replies"} <= set(prompt):
        return FoundChats("tree of replies", MESSAGES, _paths(table, list(_nested(table))), ("prompt",))
    return None


def _in_column(form: str, column: str, table: Table) -> FoundChats:
    return FoundChats(form, column, _with_system(table, column), (column, "tools", "system"))


def first_cell(table: Table, column: str) -> Any:
    """The first cell that is not empty of the first ones, parsed where it is JSON text."""
    return next(filter(None, first_cells(table, column, 50)), None)


def _is_chat(cell: Any) -> bool:
    if isinstance(cell, dict):
        cell = cell.get(MESSAGES) or cell.get("conversations")
    first = cell[0] if isinstance(cell, list) and cell else None
    return isinstance(first, dict) and ("role" in first or _is_sharegpt(cell))


def _is_sharegpt(cell: Any) -> bool:
    return isinstance(cell, list) and {"from", "value"} <= set(cell[0])


def _joined(table: Table) -> Table:
    """The messages of the prompt and those of the completion as one chat a row."""
    rows = table.rows.to_list()
    chats = [[*_as_list(row["prompt"]), *_as_list(row.get("completion"))] for row in rows]
    return _with_messages(table, chats, range(len(rows)))


def _as_list(cell: Any) -> list:
    cell = parsed(cell)
    if isinstance(cell, str):
        return [{"role": "assistant", "content": cell}]
    return cell if isinstance(cell, list) else [] if cell is None else [cell]


def _with_system(table: Table, column: str) -> Table:
    """`table` with the texts of a column "system", as ShareGPT has them beside the chats, as the first message of each."""
    if "system" not in table.rows.column_names or column == "system":
        return table
    rows = table.rows.select_columns([column, "system"])
    chats = [_opened(parsed(row[column]), row["system"]) for row in rows]
    return _with_messages(table, chats, range(len(chats)), column)


def _opened(chat: Any, system: Any) -> Any:
    if not isinstance(system, str) or not system.strip() or not isinstance(chat, list):
        return chat
    first = chat[0] if chat and isinstance(chat[0], dict) else {}
    return chat if "system" in (first.get("role"), first.get("from")) else [{"role": "system", "content": system}, *chat]


def _with_messages(table: Table, chats: list, rows: Iterable[int], column: str = MESSAGES) -> Table:
    """A table of `chats`, each with the number and the tools of the row that it is from."""
    rows = list(rows)
    columns: dict[str, list] = {column: chats}
    if "tools" in table.rows.column_names:
        tools = table.rows["tools"][:]
        columns["tools"] = [tools[row] for row in rows]
    made, kept_as_json = in_memory(columns)
    numbers = table.all_numbers()
    return replace(
        table,
        rows=made,
        numbers=[numbers[row] for row in rows],
        files=table.files if len(chats) == len(numbers) else (),
        kept_as_json=kept_as_json,
    )


def _flat(table: Table) -> Iterator[_Message]:
    """The messages of a table that has a row for each, without deleted ones."""
    columns = [name for name in (*FLAT, "deleted") if name in table.rows.column_names]
    for index, row in enumerate(table.rows.select_columns(columns)):
        if row.get("deleted") != "true":
            yield _Message(str(row["message_id"]), row["parent_id"] or None, str(row["role"]), row["text"] or "", index)


def _nested(table: Table) -> Iterator[_Message]:
    """The messages of a table that has a tree in each row, named by numbers: their own names may be others' in another tree."""
    names = map(str, itertools.count())
    for index, cell in enumerate(table.cells("prompt")):
        left: list[tuple[Any, str | None]] = [(parsed(cell), None)]
        while left:
            node, parent = left.pop()
            if isinstance(node, dict) and not node.get("deleted"):
                name = next(names)
                yield _Message(name, parent, str(node.get("role")), str(node.get("text") or ""), index)
                left += [(reply, name) for reply in reversed(_as_list(node.get("replies")))]


def _paths(table: Table, messages: list[_Message]) -> Table:
    """A chat for each answer that no other answer follows. An answer that several chats share is trained on in the first."""
    by_name = {message.identifier: message for message in messages}
    answers = [message for message in messages if message.role == "assistant"]
    followed = {earlier.identifier for message in answers for earlier in _before(message, by_name) if earlier.role == "assistant"}
    chats, rows, trained = [], [], set()
    for last in answers:
        if last.identifier in followed:
            continue
        path = [*reversed(list(_before(last, by_name))), last]
        chats.append([_turn(message, message.identifier in trained) for message in path])
        trained |= {message.identifier for message in path}
        rows.append(last.row)
    return _with_messages(table, chats, rows)


def _turn(message: _Message, seen: bool) -> dict[str, Any]:
    turn = {"role": ROLES.get(message.role, message.role), "content": message.text}
    return turn | {"weight": 0} if seen and message.role == "assistant" else turn


def _before(message: _Message, by_name: dict[str, _Message]) -> Iterator[_Message]:
    """The messages that lead to `message`, the nearest first."""
    seen = {message.identifier}
    while message.parent in by_name and message.parent not in seen:
        message = by_name[message.parent]
        seen.add(message.identifier)
        yield message
