"""POST /v1/completions and /v1/chat/completions as OpenAI shapes them, for programs that know nothing else."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from job.evaluation.generate import Ids
from job.serving.asking import Asking
from job.serving.batches import Answer, Question
from job.serving.http import Refused, Reply, Request
from job.serving.parameters import CHAT, COMPLETIONS, Endpoint

BASE = "base"
MOST_STOPS = 4


@dataclass(frozen=True)
class Completions:
    """Answers programs."""

    asking: Asking
    name: str
    """What programs call the adapter; the base is called "base"."""

    def models(self, _request: Request) -> Reply:
        """GET /v1/models"""
        return Reply.of({"object": "list", "data": [self._model(name) for name in (self.name, BASE)]})

    def model(self, request: Request) -> Reply:
        """GET /v1/models/NAME"""
        return Reply.of(self._model(self._known(request.path.removeprefix("/v1/models/"))))

    def complete(self, request: Request) -> Reply:
        """POST /v1/completions: `prompt` is an input, or a list of them, as a table has them; the run's template is put around it.
        Token ids are read as they are. `row` has the further columns, where the template reads any."""
        body = request.json()
        base = self._check(body, COMPLETIONS) == BASE
        prompts = self._prompts(body)
        return self._reply(request, body, "text_completion", prompts, base)

    def chat(self, request: Request) -> Reply:
        """POST /v1/chat/completions: an adapter that was trained on chats reads them as they are, another one message."""
        body = request.json()
        base = self._check(body, CHAT) == BASE
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Refused(400, "messages: a list of messages was expected.", param="messages")
        record = self.asking.adapter.record
        if unread := next((name for name in ("row" if record.chat else "tools",) if body.get(name)), None):
            trained = "chats" if record.chat else "single inputs"
            raise Refused(400, f"{unread}: this adapter was trained on {trained}, which have none.", "unsupported_value", unread)
        if record.chat:
            row = {record.messages_column: messages} | ({"tools": body["tools"]} if body.get("tools") else {})
        else:
            row = {record.input_column: _only_text(messages)} | _row(body)
        return self._reply(request, body, "chat.completion", self.asking.read_rows([row]), base)

    def _prompts(self, body: dict[str, Any]) -> list[Ids]:
        given: Any = body.get("prompt")
        several: list[Any] = given if isinstance(given, list) else [given]
        if several is given and several and all(map(_is_token, several)):
            several = [several]
        if several and all(isinstance(text, str) for text in several):
            return self.asking.read_rows([{self.asking.adapter.record.input_column: text} | _row(body) for text in several])
        if several and all(isinstance(ids, list) and ids and all(map(_is_token, ids)) for ids in several):
            return self.asking.read_ids(several)
        raise Refused(400, "prompt: a text, or a list of texts or of token ids was expected.", param="prompt")

    def _check(self, body: dict[str, Any], endpoint: Endpoint) -> str:
        """The model that is asked. Raises Refused for parameters that would not be heeded."""
        endpoint.check(body)
        return self._known(body.get("model"))

    def _known(self, name: object) -> str:
        if name not in (self.name, BASE):
            raise Refused(404, f'model {json.dumps(name)}: there are "{self.name}" and "{BASE}".', "model_not_found", "model")
        return str(name)

    def _model(self, name: str) -> dict[str, Any]:
        record = self.asking.adapter.folder.adapter_record
        return {"id": name, "object": "model", "created": int(record.stat().st_mtime), "owned_by": "lora-job"}

    def _reply(self, request: Request, body: dict[str, Any], kind: str, prompts: list[Ids], base: bool) -> Reply:
        most, stops = self._most_tokens(body), _stops(body)
        questions = [Question(prompt, most, base) for prompt in prompts]
        answers = self.asking.answers(questions, request)
        head = {"id": f"{'chatcmpl' if kind[0] == 'c' else 'cmpl'}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
        head |= {"model": body["model"]}
        texts = [_cut(answer, stops) for answer in answers]
        usage = _usage(prompts, answers)
        if body.get("stream"):
            wanted = bool((body.get("stream_options") or {}).get("include_usage"))
            return Reply(_events(head, texts, usage if wanted else None), "text/event-stream; charset=utf-8")
        choices = [_choice(kind, place, *text) for place, text in enumerate(texts)]
        return Reply.of(head | {"choices": choices, "usage": usage})

    def _most_tokens(self, body: dict[str, Any]) -> int:
        """As many as asked for, at most those of the evaluation."""
        most = self.asking.adapter.record.max_new_tokens
        for name in ("max_tokens", "max_completion_tokens"):
            if (given := body.get(name)) is not None:
                if not _is_token(given) or given < 1:
                    raise Refused(400, f"{name}: a number from 1 on was expected.", param=name)
                most = min(most, given)
        return most


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _row(body: dict[str, Any]) -> dict[str, Any]:
    row = body.get("row") or {}
    if not isinstance(row, dict):
        raise Refused(400, "row: an object of columns was expected.", param="row")
    return row


def _only_text(messages: Sequence[Any]) -> str:
    """The text of the only message. Raises Refused where there are more: an adapter for single inputs has no place for them."""
    if len(messages) > 1:
        message = f"messages: this adapter was trained on single inputs, {len(messages)} messages were sent. Send the last alone."
        raise Refused(400, message, "unsupported_value", "messages")
    turn = messages[0] if isinstance(messages[0], dict) else {}
    content = turn.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if turn.get("role") != "user" or not isinstance(content, str):
        raise Refused(400, 'messages: one message of role "user" with a text was expected.', param="messages")
    return content


def _stops(body: dict[str, Any]) -> list[str]:
    given = body.get("stop") or []
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(text, str) and text for text in stops):
        raise Refused(400, f"stop: a text or at most {MOST_STOPS} of them were expected.", param="stop")
    return stops


def _cut(answer: Answer, stops: Sequence[str]) -> tuple[str, str]:
    """The text up to the first of `stops`, and why it ends."""
    place = min((found for found in map(answer.text.find, stops) if found >= 0), default=None)
    if place is not None:
        return answer.text[:place], "stop"
    return answer.text, "stop" if answer.ended else "length"


def _usage(prompts: Sequence[Ids], answers: Sequence[Answer]) -> dict[str, int]:
    asked, made = sum(map(len, prompts)), sum(len(answer.ids) for answer in answers)
    return {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}


def _choice(kind: str, place: int, text: str, reason: str | None) -> dict[str, Any]:
    said = {"text": text} if kind == "text_completion" else {"message": {"role": "assistant", "content": text, "refusal": None}}
    return {"index": place} | said | {"logprobs": None, "finish_reason": reason}


def _events(head: dict[str, Any], texts: list[tuple[str, str]], usage: dict[str, int] | None) -> Iterator[bytes]:
    """The answers as server-sent events: each text in one piece, as batches make them, then why it ends."""
    if head["object"] == "text_completion":
        chunks = [_choice("text_completion", place, text, reason) for place, (text, reason) in enumerate(texts)]
    else:
        head = head | {"object": "chat.completion.chunk"}
        (text, reason), *_ = texts
        deltas = [({"role": "assistant", "content": text}, None), ({}, reason)]
        chunks = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end} for delta, end in deltas]
    for chunk in chunks:
        yield _event(head | {"choices": [chunk]})
    if usage:
        yield _event(head | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(content: object) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode(errors="replace")
