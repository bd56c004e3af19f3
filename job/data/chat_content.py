"""What of a chat the model's template leaves out: refused where an answer or its question would lose something, else a warning."""

import logging
import re
from collections.abc import Iterable
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from job.data.chat_template import Chat, Message, render, template_traits, text_of
from job.errors import DataError

log = logging.getLogger(__name__)

NOT_SHOWN = {"role", "weight", "tool_calls", "tool_call_id", "id"}
"""Keys of a message whose own text need not be in the prompt."""
THOUGHTS = re.compile(r"</?think>")

Place = tuple[int, str]
"""A message's index, and its key."""


def check_chat(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises DataError if the template leaves out a message's content or its tool calls."""
    for number, message in enumerate(chat.messages):
        answer = message["role"] == "assistant"
        shown = chat.until(number + 1) if answer else chat
        lost = {key for place, key in left_out(shown, tokenizer) if place == number}
        if key := next((key for key in ("tool_calls", "content") if key in lost), None):
            raise DataError(
                f'{chat.where}: message {number + 1}: this model\'s chat template leaves out its "{key}". Choose a MODEL_ID whose '
                "template writes it, or say the same in a message that the template takes."
            )


def check_answer(chat: Chat, number: int, rendered: str) -> None:
    """Raises DataError if `rendered`, the answer at `number`, lacks a part of its content; spaces do not matter."""
    squeezed = "".join(rendered.split())
    for part in THOUGHTS.split(text_of(chat.messages[number].get("content", ""))):
        if "".join(part.split()) not in squeezed:
            shown = " ".join(part.split())[:40]
            raise DataError(
                f'{chat.where}: message {number + 1}: this model\'s chat template leaves out "{shown}" of the answer. Put thoughts '
                'into "reasoning_content", delete that part, or choose another MODEL_ID.'
            )


def warn_of_changes(chats: Iterable[Chat], tokenizer: PreTrainedTokenizerBase) -> None:
    """Logs a line for each thing that the template shows otherwise than it was written, or leaves out, with its first place."""
    traits = template_traits(tokenizer)
    first: dict[str, str] = {}
    for chat in chats:
        for number, message in enumerate(chat.messages):
            where = f"{chat.where}: message {number + 1}"
            if message["role"] == "developer" and not traits.developer:
                first.setdefault("has no role developer: it is called system", where)
            if message["role"] in ("system", "developer") and not traits.system:
                first.setdefault("has no system role: the text is put before that of the user's next message", where)
            shown = chat.until(number + 1) if message["role"] == "assistant" else chat
            unusual = message.keys() - NOT_SHOWN - {"content", "tools"}
            lost = {key for place, key in left_out(shown, tokenizer) if place == number and key in unusual} if unusual else ()
            for key in sorted(lost):
                first.setdefault(f'leaves out "{key}"', where)
        places = {number for number, message in enumerate(chat.messages) if "tools" in message} | {-1} if chat.tools else set()
        if places and {(place, "tools") for place in places} <= left_out(chat, tokenizer):
            first.setdefault('leaves out "tools"', chat.where)
    for what, where in first.items():
        log.warning("%s (first there): this model's chat template %s", where, what)


def left_out(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> frozenset[Place]:
    """What the rendered chat has no trace of; `(-1, "tools")` for its tools. Chats of the same form are rendered once."""
    marks: dict[Place, str] = {}
    messages = [_mark(message, number, marks) for number, message in enumerate(chat.messages)]
    tools = [{"type": "function", "function": _MARKED_TOOL | {"name": _new_mark((-1, "tools"), marks)}}] if chat.tools else None
    return _left_out(tokenizer, str(tokenizer.chat_template), Chat(messages, tools).dump(), tuple(marks.items()))


@lru_cache(maxsize=4096)
def _left_out(
    tokenizer: PreTrainedTokenizerBase, template: str, marked: str, marks: tuple[tuple[Place, str], ...]
) -> frozenset[Place]:
    """The places whose mark, or name where it is not text, is not to be found."""
    try:
        text = render(Chat.parse(marked), tokenizer)
    except DataError:  # the marks may be what it does not take; the chat itself is rendered elsewhere
        return frozenset()
    return frozenset(place for place, mark in marks if mark not in text and (mark != place[1] or mark not in template))


_MARKED_TOOL = {"description": "d", "parameters": {"type": "object", "properties": {}}}


def _mark(message: Message, number: int, marks: dict[Place, str]) -> Message:
    """`message` with a mark for each of its texts, which `marks` then has by their places."""
    marked: Message = {}
    for key, value in message.items():
        place = (number, key)
        if key == "tool_calls":
            calls = value or []
            marked[key] = [_mark_call(call, _new_mark(place, marks)) for call in calls]
        elif key in NOT_SHOWN or value in ("", [], {}):
            marked[key] = value
        elif key == "content" or isinstance(value, str):
            marked[key] = _new_mark(place, marks)
        else:
            marked[key], marks[place] = value, key
    return marked


def _mark_call(call: dict, mark: str) -> dict:
    return call | {"function": call["function"] | {"arguments": {"a": mark}}}


def _new_mark(place: Place, marks: dict[Place, str]) -> str:
    """A text of nine letters, which some templates want ids to have."""
    marks[place] = f"q{len(marks):08d}"
    return marks[place]
