"""Table -> chats: OpenAI's and ShareGPT's ways to write them, each message checked."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from job.data.chat_template import Chat, Message, text_of, trained_answers
from job.data.fields import from_json
from job.data.token_lengths import ROWS_AT_ONCE
from job.errors import DataError
from job.tables.table import Table

ROLES = ("system", "developer", "user", "assistant", "tool")
TOOLS = "tools"
"""Column beside the messages: what the assistant may call."""
SHAREGPT = {"human": "user", "gpt": "assistant", "observation": "tool", "function": "tool"}
NO_TEXT = ("images", "image", "audio", "videos", "video", "files")


def chat_examples(table: Table, column: str, cache: Path) -> Dataset:
    """The examples of a table of chats: columns `messages` (JSON of `Chat`) and `row`.

    cache: the file they are kept in. Raises DataError naming row and message of the first that is no chat with an answer.
    """

    def make(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        rows = zip(batch[column], batch.get(TOOLS, [None] * len(indices)), indices, strict=True)
        chats = [_up_to_answer(_chat(cell, tools, _where(table, column, index))) for cell, tools, index in rows]
        return {
            "messages": [chat.dump() for chat in chats],
            "row": [table.row_name(index) for index in indices],
        }

    rows = table.rows.select_columns(_columns(table, column))
    return rows.map(
        make,
        batched=True,
        with_indices=True,
        remove_columns=rows.column_names,
        features=Features({"messages": Value("string"), "row": Value("string")}),  # else of the type that "messages" had
        cache_file_name=str(cache),
        desc="read",
    )


def open_chats(table: Table, column: str) -> list[Chat]:
    """The chats of a table that wait for an answer."""
    cells = table.cells(column)
    tools = table.cells(TOOLS) if TOOLS in table.rows.column_names else (None for _ in range(len(table.rows)))
    return [_chat(*pair, _where(table, column, index)) for index, pair in enumerate(zip(cells, tools, strict=True))]


def question_of(text: str) -> str:
    """What makes two chats the same question: all but the last answer. text: as in the column `messages`."""
    chat = Chat.parse(text)
    question = json.dumps(chat.messages[:-1], sort_keys=True)
    return f"{question}{json.dumps(chat.tools, sort_keys=True)}" if chat.tools else question


def chats_of(examples: Dataset) -> Iterator[Chat]:
    """The chats of examples, few of them in memory at once."""
    for batch in examples.select_columns(["messages"]).iter(batch_size=ROWS_AT_ONCE):
        yield from map(Chat.parse, batch["messages"])


def shared_opening(chats: Iterable[Chat]) -> Chat | None:
    """The system message and the tools that all `chats` begin with; None if they differ, or there are none."""
    first, *others = itertools.islice(itertools.groupby(map(opening_of, chats)), 2)  # groups of neighbours that are equal
    opening = first[0]
    return None if others or not (opening.messages or opening.tools) else opening


def opening_of(chat: Chat) -> Chat:
    """What comes before the first question: a system message, and the tools."""
    return Chat([turn for turn in chat.messages[:1] if turn["role"] in ("system", "developer")], chat.tools)


def _columns(table: Table, column: str) -> list[str]:
    return [column, *([TOOLS] if TOOLS in table.rows.column_names and column != TOOLS else [])]


def _where(table: Table, column: str, index: int) -> str:
    return f'{table.source}: {table.row_name(index)}, column "{column}"'


def _up_to_answer(chat: Chat) -> Chat:
    """`chat` without what follows the last answer that is trained on."""
    last = chat.messages[-1]
    if last["role"] != "assistant" or not (last.get("tool_calls") or text_of(last["content"]).strip()):
        raise DataError(f"{chat.where}: the last message must be the assistant's answer. Delete what follows it.")
    answers = trained_answers(chat)
    if not answers:
        raise DataError(f'{chat.where}: no answer of the assistant follows a message and has a "weight" other than 0.')
    return chat.until(answers[-1] + 1)


def _chat(cell: Any, tools: Any, where: str) -> Chat:
    cell, tools = from_json(_without_nulls(cell)), from_json(_without_nulls(tools))
    if isinstance(cell, dict):
        tools = tools or from_json(cell.get(TOOLS))
        cell = cell.get("messages") or cell.get("conversations")
    if not isinstance(cell, list) or not cell:
        raise DataError(f'{where}: a list of {{"role": ..., "content": ...}} was expected.')
    messages = [_message(turn, f"{where}: message {number}") for number, turn in enumerate(cell, 1)]
    for message in messages:
        tools = tools or from_json(message.get(TOOLS))  # some templates read them there, most in a place of their own
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise DataError(f'{where}: "tools" is not a list of objects such as {{"type": "function", "function": ...}}.')
    return Chat(messages, tools or None, where)


def _message(turn: Any, place: str) -> Message:
    turn = {key: value for key, value in turn.items() if value is not None} if isinstance(turn, dict) else {}
    if "from" in turn and "role" not in turn:
        turn["role"], turn["content"] = SHAREGPT.get(turn["from"], turn["from"]), turn.pop("value", None)
        del turn["from"]
    if turn.get("role") not in ROLES:
        raise DataError(f"{place} has no role out of {', '.join(ROLES)}.")
    if "function_call" in turn:
        turn["tool_calls"] = [*turn.get("tool_calls", []), {"type": "function", "function": turn.pop("function_call")}]
    if "tool_calls" in turn:
        turn["tool_calls"] = [_tool_call(call, place) for call in turn["tool_calls"]]
    if "weight" in turn and turn["weight"] not in (0, 1):
        raise DataError(f'{place}: "weight" is {turn["weight"]!r}, and 0 or 1 was expected.')
    if other := next((key for key in NO_TEXT if turn.get(key)), None):
        raise DataError(f'{place} has "{other}", and only text is trained on. Leave it out.')
    if isinstance(turn.get("content"), list):
        _check_parts(turn["content"], place)
    elif not isinstance(turn.get("content"), str) and not turn.get("tool_calls"):
        raise DataError(f"{place} has no text as its content.")
    return turn


def _check_parts(parts: list, place: str) -> None:
    """Raises DataError unless all `parts` of a content are text."""
    kinds = [part.get("type") if isinstance(part, dict) and isinstance(part.get("text"), str) else None for part in parts]
    if not parts or None in kinds:
        raise DataError(f'{place} has a content whose parts are not all {{"type": "text", "text": ...}}. Leave out the others.')
    if other := next((kind for kind in kinds if kind != "text"), None):
        raise DataError(f'{place} has a part of type "{other}", and only text is trained on. Leave it out.')


def _tool_call(call: Any, place: str) -> dict:
    """`call` as {"type": "function", "function": {"name": ..., "arguments": {...}}}; OpenAI writes its arguments as text."""
    call = call if isinstance(call, dict) else {}
    call = call if "function" in call else {"type": "function", "function": call}
    function = call["function"]
    arguments = from_json(function.get("arguments") or {}) if isinstance(function, dict) else None
    if not isinstance(arguments, dict) or not isinstance(function.get("name"), str):
        raise DataError(f'{place} has a tool call that is not {{"function": {{"name": "...", "arguments": {{...}}}}}}.')
    return call | {"function": function | {"arguments": arguments}}


def _without_nulls(value: Any) -> Any:
    """`value` without the nulls that Arrow puts where other rows have a key: it is absent in this one. Text has none."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
