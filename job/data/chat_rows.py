"""Table -> chats, each message checked."""

from pathlib import Path

from datasets import Dataset

from job.data.read import Table
from job.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
WAITED_FOR = {"role": "assistant", "content": "?"}
"""Stands for the answer that is asked for."""


def chat_examples(table: Table, column: str, cache: Path) -> Dataset:
    """The examples of a table of chats: columns `input`, `messages`, `ground_truth`, `row`. cache: the file they are kept in."""
    for index, chat in enumerate(table.cells(column)):
        if problem := _chat_problem(chat):
            raise DataError(f'{table.source}: {table.row_name(index)}, column "{column}": {problem}.')

    def make(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        chats = batch[column]
        return {
            "input": [next((turn["content"] for turn in reversed(chat) if turn["role"] == "user"), "") for chat in chats],
            "messages": [[{"role": turn["role"], "content": turn["content"]} for turn in chat] for chat in chats],
            "ground_truth": [chat[-1]["content"] for chat in chats],
            "row": [table.row_name(index) for index in indices],
        }

    rows = table.rows.select_columns([column])
    return rows.map(make, batched=True, with_indices=True, remove_columns=[column], cache_file_name=str(cache), desc="read")


def open_chats(table: Table, column: str) -> list[list[dict[str, str]]]:
    """The chats of a table that wait for an answer."""
    chats = []
    for index, chat in enumerate(table.cells(column)):
        answered = [*chat, WAITED_FOR] if isinstance(chat, list) else chat
        if problem := _chat_problem(answered):
            raise DataError(f'{table.source}: {table.row_name(index)}, column "{column}": {problem}.')
        chats.append([{"role": turn["role"], "content": turn["content"]} for turn in chat])
    return chats


def _chat_problem(chat: object) -> str | None:
    if not isinstance(chat, list) or not chat:
        return 'a list of {"role": ..., "content": ...} was expected'
    for number, turn in enumerate(chat, 1):
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            return f"message {number} has no role out of {', '.join(ROLES)}"
        if not isinstance(turn.get("content"), str):
            return f"message {number} has no text as its content"
    if chat[-1]["role"] != "assistant" or not chat[-1]["content"].strip():
        return "the last message must be the assistant's answer"
    return None
