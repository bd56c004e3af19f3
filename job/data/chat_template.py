"""A chat as the model's own template renders it. What a template cannot take in one form is given in another that says the same."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from job.data.text_tokens import Span
from job.errors import DataError, first_line

Message = dict[str, Any]
MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
MARK = "q12345678"
"""A text that no template changes. Some templates want ids of nine characters."""


@dataclass(frozen=True)
class Chat:
    """A chat as it stands in a table."""

    messages: list[Message]
    tools: list[dict] | None = None
    where: str = "chat"
    """What a person calls its cell."""

    def until(self, number: int) -> "Chat":
        """Its first `number` messages."""
        return replace(self, messages=self.messages[:number])

    def dump(self) -> str:
        """JSON that `parse` reads; a column of it keeps messages of any form as they are."""
        return json.dumps(vars(self), default=str)

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class TemplateTraits:
    """What a template takes."""

    system: bool
    developer: bool
    text: bool
    parts: bool
    """Content as a list of {"type": "text", "text": ...}."""


def render(chat: Chat, tokenizer: PreTrainedTokenizerBase, answer_next: bool = False) -> str:
    """`chat` in the model's own template; with `answer_next`, up to where the answer begins.

    Raises DataError with the message and the template's words for why it does not take it.
    """
    return render_with_spans(chat, tokenizer, answer_next)[0]


def render_with_spans(chat: Chat, tokenizer: PreTrainedTokenizerBase, answer_next: bool = False) -> tuple[str, list[Span]]:
    """The same, and which parts of it the template marks as an assistant's with {% generation %}, if it does."""
    try:
        return _render(chat, tokenizer, answer_next)
    except Exception as error:  # what a template raises is its author's choice
        raise DataError(
            f"{chat.where}: {_refused(chat, tokenizer)}: this model's chat template does not take it ({first_line(error)}). "
            "Change the chat to what the template takes, or choose another MODEL_ID."
        ) from None


def template_traits(tokenizer: PreTrainedTokenizerBase) -> TemplateTraits:
    """What the template of `tokenizer` takes, found by rendering small chats."""
    return _traits(tokenizer, str(tokenizer.chat_template))


def adapt(messages: list[Message], traits: TemplateTraits) -> list[Message]:
    """`messages` with roles and contents in the form that the template takes."""
    adapted = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
    for message in adapted:
        if message["role"] == "developer" and not traits.developer:
            message["role"] = "system"
    if not traits.system:
        adapted = _put_before_user(adapted)
    for message in adapted:
        if isinstance(message.get("content"), list) and not traits.parts:
            message["content"] = text_of(message["content"])
        elif isinstance(message.get("content"), str) and not traits.text and traits.parts:
            message["content"] = [{"type": "text", "text": message["content"]}]
    return adapted


def trained_answers(chat: Chat) -> list[int]:
    """The indices of the answers that are trained on: those after something, without "weight": 0."""
    turns = enumerate(chat.messages)
    return [number for number, turn in turns if number and turn["role"] == "assistant" and turn.get("weight") != 0]


def text_of(content: str | list[dict]) -> str:
    """The text of a message's content."""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _render(chat: Chat, tokenizer: PreTrainedTokenizerBase, answer_next: bool) -> tuple[str, list[Span]]:
    refused: Exception | None = None
    for messages in _forms(adapt(chat.messages, template_traits(tokenizer))):
        try:
            text, spans = _apply(messages, chat.tools, tokenizer, answer_next)
        except Exception as error:
            refused = refused or error
            continue
        if not any(str(arguments) in text for arguments in _arguments(messages)):
            return text, spans
    raise refused or ValueError("it writes the arguments of tool calls as Python, not as JSON")


def _apply(
    messages: list[Message], tools: list[dict] | None, tokenizer: PreTrainedTokenizerBase, answer_next: bool = False
) -> tuple[str, list[Span]]:
    if not MARKS_ANSWERS.search(str(tokenizer.chat_template)):
        return tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=answer_next, tokenize=False), []
    template = tokenizer.get_chat_template(tools=tools)
    texts, spans = render_jinja_template(
        [messages], tools, None, template, True, False, answer_next, **tokenizer.special_tokens_map
    )
    return texts[0], spans[0]


def _refused(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> str:
    """The message that the template does not take: the one after the most that it does."""
    for count in range(len(chat.messages) - 1, 0, -1):
        if _renders(chat.until(count), tokenizer):
            return f"message {count + 1}"
    without_tools = chat.tools and _renders(replace(chat, tools=None), tokenizer)
    return '"tools"' if without_tools else "message 1"


def _renders(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        _render(chat, tokenizer, False)
    except Exception:
        return False
    return True


def _put_before_user(messages: list[Message]) -> list[Message]:
    """`messages` with the text of each system message before that of the user's next one."""
    kept: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(text_of(message["content"]))
        elif message["role"] == "user":
            kept.append(message | {"content": "\n\n".join([*waiting, text_of(message["content"])])} if waiting else message)
            waiting = []
        else:
            kept.append(message)
    if waiting:
        raise ValueError("it has no system role, and no user's message follows that could begin with that text")
    return kept


def _forms(messages: list[Message]) -> Iterator[list[Message]]:
    """`messages`, then the other ways to write an assistant's tool calls: arguments as text, an empty content beside them."""
    yield messages
    if any(message.get("tool_calls") for message in messages):
        as_text = [_with_arguments_as_text(message) for message in messages]
        yield as_text
        yield [{"content": ""} | message for message in messages]
        yield [{"content": ""} | message for message in as_text]


def _with_arguments_as_text(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = [
        call | {"function": call["function"] | {"arguments": json.dumps(call["function"].get("arguments", {}), ensure_ascii=False)}}
        for call in message["tool_calls"]
    ]
    return message | {"tool_calls": calls}


def _arguments(messages: list[Message]) -> list[dict]:
    """The arguments of all tool calls that are dicts and not empty: Python writes an empty one as JSON does."""
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    found = [call["function"].get("arguments") for call in calls]
    return [arguments for arguments in found if arguments and isinstance(arguments, dict)]


@lru_cache(maxsize=8)
def _traits(tokenizer: PreTrainedTokenizerBase, template: str) -> TemplateTraits:
    def shows(*messages: Message) -> bool:
        try:
            text, _ = _apply(list(messages), None, tokenizer)
        except Exception:
            return False
        return MARK in text and "'type'" not in text

    user = {"role": "user", "content": MARK}
    parts = {"role": "user", "content": [{"type": "text", "text": MARK}]}
    system = {"role": "system", "content": MARK}, {"role": "user", "content": "a"}
    answer = {"role": "assistant", "content": "b"}
    return TemplateTraits(
        system=(shows(*system) and shows(*system, answer)) or not shows(user),  # Mistral's shows it before an open question alone
        developer="developer" in template,
        text=shows(user),
        parts=shows(parts),
    )
