"""Chats -> token ids and labels in the model's own template, and what ends an answer there.

What is trained on is what the model would write after the same chat: from where the template lets an answer begin up to the token
that ends a turn. A template that shows an earlier answer otherwise than it was written (without its thinking) makes a row of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from job.data.chat_content import check_answer, check_chat
from job.data.chat_template import MARK, Chat, render, render_with_spans, text_of, trained_answers
from job.data.text_tokens import Span, covered_tokens, split_places, tokens_around, tokens_of
from job.errors import DataError
from job.labels import IGNORED

Ids = list[int]


@dataclass(frozen=True)
class Answer:
    """An assistant's turn, the last of what is rendered."""

    question: str
    rendered: str
    """The chat up to this turn."""
    spans: list[Span]
    """What of it is trained on."""
    text: str
    """The right answer: the turn without the token that ends it."""
    ends: bool
    """Whether the template writes a token that ends it."""


def encode_examples(batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, every_answer: bool = True) -> dict[str, list]:
    """The columns of `tokenise` for a batch of chats: the ids as `source_ids`, the labels as `target_ids`.

    every_answer: a template that shows earlier answers otherwise makes a row of each, else of the last alone.
    """
    columns: dict[str, list] = {name: [] for name in ("input", "ground_truth", "row", "source_ids", "target_ids")}
    for text, row in zip(batch["messages"], batch["row"], strict=True):
        chat = Chat.parse(text)
        for answers in _answers_a_row(chat, tokenizer, every_answer):
            cells = (answers[-1].question, answers[-1].text, row, *_encode(answers, tokenizer))
            for column, cell in zip(columns.values(), cells, strict=True):
                column.append(cell)
    return columns


def encode_open_chats(chats: Sequence[Chat], tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """Token ids of chats as the model sees them before it answers."""
    for chat in chats:
        check_chat(chat, tokenizer)
    return [tokenizer(render(chat, tokenizer, True), add_special_tokens=False, verbose=False).input_ids for chat in chats]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the token that ends an assistant's turn in the chat template; None where there is no template, or plain text
    ends a turn."""
    return _ending(tokenizer, str(tokenizer.chat_template), len(tokenizer))[0] if tokenizer.chat_template else None


def ends_of_turns(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of all tokens that end a turn: of an answer, and of a tool call where that is another."""
    end = end_of_turn(tokenizer)
    if end is None:
        return []
    call = {"id": MARK, "type": "function", "function": {"name": MARK, "arguments": {"a": MARK}}}
    try:
        text = render(Chat([{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]), tokenizer)
    except DataError:
        return [end]
    called = text[text.rfind(MARK) + len(MARK) :] if MARK in text else ""
    body, stop, ends = _turn_end(called, tokenizer)
    return [end, *({tokenizer.convert_tokens_to_ids(called[body:stop])} - {end} if ends else ())]


@lru_cache(maxsize=8)
def _ending(tokenizer: PreTrainedTokenizerBase, _template: str, _vocabulary: int) -> tuple[int | None, str, tuple[str, ...]]:
    """The token that ends a turn, its text, and the texts of all special tokens, the longest first."""
    answer = {"role": "assistant", "content": MARK}
    added = {token.content: (number, token.special) for number, token in tokenizer.added_tokens_decoder.items() if token.content}
    special = tuple(sorted((text for text, (_, special) in added.items() if special), key=len, reverse=True))
    for messages in ([{"role": "user", "content": "a"}, answer], [answer]):
        try:
            text = render(Chat(messages), tokenizer)
        except DataError:
            continue
        after = text.rpartition(MARK)[2]
        found = min(((after.find(token), -len(token), token) for token in added if token in after), default=None)
        return (added[found[2]][0], found[2], special) if found else (None, "", special)
    return None, "", special


def _answers_a_row(chat: Chat, tokenizer: PreTrainedTokenizerBase, every_answer: bool) -> list[list[Answer]]:
    """The answers of each row that `chat` makes: one with all, where earlier ones stand in the whole as the model wrote them."""
    check_chat(chat, tokenizer)
    answers = [_answer(chat, number, tokenizer) for number in trained_answers(chat)]
    *earlier, last = answers
    unchanged = all(last.rendered.startswith(answer.rendered[: answer.spans[-1][1]]) for answer in earlier)
    borders = [span for answer in earlier for span in answer.spans]
    if not earlier or (unchanged and not split_places(tokens_of(last.rendered, tokenizer), borders, tokenizer)):
        return [answers]
    return [[answer] for answer in answers] if every_answer else [answers[-1:]]


def _answer(chat: Chat, number: int, tokenizer: PreTrainedTokenizerBase) -> Answer:
    before = render(chat.until(number), tokenizer, answer_next=True)
    rendered, marked = render_with_spans(chat.until(number + 1), tokenizer)
    if not rendered.startswith(before):
        asked = before[_shared_length(before, rendered) :]
        begun = text_of(chat.messages[number].get("content", "")).startswith(asked.strip())
        raise DataError(
            f"{chat.where}: message {number + 1}: this model's chat template asks for an answer after {asked[-40:]!r}, and writes "
            f"this one without. {'Use' if begun else 'Begin the answer so, or use'} INPUT_COLUMN and TARGET_COLUMN."
        )
    spans = [(max(begin, len(before)), end) for begin, end in marked if end > len(before)] or [(len(before), len(rendered))]
    start = spans[-1][0]
    check_answer(chat, number, rendered[spans[0][0] :])
    body, end, ends = _turn_end(rendered[start:], tokenizer)
    spans[-1] = (start, start + end)
    question = next((turn for turn in reversed(chat.messages[:number]) if turn["role"] == "user"), {"content": ""})
    return Answer(text_of(question.get("content") or ""), rendered, spans, rendered[start : start + body].strip(), ends)


def _shared_length(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _turn_end(turn: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int, bool]:
    """Where the text of a turn ends, where the token does that ends it, and whether there is one."""
    _, ending, special = _ending(tokenizer, str(tokenizer.chat_template), len(tokenizer))
    body = turn.rstrip()
    if not ending:
        return len(body), len(body), False
    while token := next((token for token in (ending, *special) if body.endswith(token)), None):
        body = body.removesuffix(token).rstrip()
    if (begin := turn.find(ending, len(body))) >= 0:
        return begin, begin + len(ending), True
    turn = turn.rstrip()
    last = next((token for token in special if turn.endswith(token)), "")  # another token, such as that of a tool call's end
    return len(turn) - len(last), len(turn), bool(last)


def _encode(answers: list[Answer], tokenizer: PreTrainedTokenizerBase) -> tuple[Ids, Ids]:
    """The ids of the last answer's chat, and their labels: the spans of all `answers`, -100 elsewhere."""
    last, spans = answers[-1], [span for answer in answers for span in answer.spans]
    tokens = tokens_around(last.rendered if last.ends else last.rendered[: spans[-1][1]], last.spans, tokenizer)
    ids = [token for token, _, _ in tokens]
    labels = [IGNORED] * len(ids)
    for span in spans:
        covered = covered_tokens(tokens, span)
        labels[covered] = ids[covered]
    if last.ends or tokenizer.eos_token_id is None:
        return ids, labels
    return [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
