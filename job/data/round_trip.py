"""What a tokenizer cannot read or write of a text: decode(encode(text)) against the text, normalisation included.

White space around a text does not count, as it does not for exact_match.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from job.data.chat_template import Chat

Ids = list[int]
Missing = list[str] | None
"""Of one text: the characters, and the texts of special tokens, that do not come back; None where all of it does."""

COLUMNS = ("missing_in_input", "missing_in_answer")
"""Of tokenised rows: what is missing, as JSON; empty where nothing is, so that the column is text in each batch."""
ONLY_SPACES, DOUBLE_SPACE = " ", "  "
"""The first stands first among what is missing where spaces are all that differs."""
NO_TEXTS = ("role", "type", "id", "tool_call_id")
"""Of a chat's message."""
SPACES = re.compile(r"[^\S\r\n\t]+")


class RoundTrip:
    """Compares texts with what is read back from their tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int] = ()) -> None:
        """ends: tokens that end an answer beside the tokenizer's own, of which none is ever a part of one."""
        self._tokenizer = tokenizer
        self._known: set[str] = set()
        self._unknown: set[str] = set()
        ends = [*ends, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id]
        self._ends = {tokenizer.convert_ids_to_tokens(token): token for token in ends if token is not None}
        around = {token for name in ("text", "text_target") for token in tokenizer(**{name: ""}).input_ids}
        self._around = around - set(tokenizer.all_special_ids)
        special = {token for token in (*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()) if token.strip()}
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    def missing(self, texts: Sequence[str], ids: Sequence[Ids], is_answer: bool) -> list[Missing]:
        """Of each text what its `ids` lack. An answer that holds the text of a special token which ends it loses what follows."""
        return [
            None if back.strip() == text.strip() else self._missing(text, row, back, is_answer)
            for text, row, back in zip(texts, ids, self._decode(ids), strict=True)
        ]

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The tokens of texts, without those that the tokenizer puts around them."""
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids if texts else []

    def unknown(self, pieces: set[str]) -> list[str]:
        """Those of some characters that do not come back where they stand in a word, in order."""
        for piece in pieces - self._known - self._unknown:
            back = self._decode(self.encode([f"a{piece}a"]))[0]
            (self._known if piece in back else self._unknown).add(piece)
        return sorted(pieces & self._unknown)

    def _decode(self, ids: Sequence[Ids]) -> list[str]:
        """The texts of `ids`, as answers are decoded; all at once where the tokenizer can."""
        if self._tokenizer.is_fast and not self._tokenizer.clean_up_tokenization_spaces:
            return self._tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=True)
        return [self._tokenizer.decode(row, skip_special_tokens=True) for row in ids]

    def _missing(self, text: str, ids: Ids, back: str, is_answer: bool) -> Missing:
        special = dict.fromkeys(self._special.findall(text))
        if special:
            back = self._with_special_tokens(text, is_answer)
        elif self._around:  # not every tokenizer calls special what it puts around a text: M2M100's languages
            back = self._decode([[token for token in ids if token not in self._around]])[0]
        back = back.strip()
        if back == text.strip():
            return None
        missing = [token for token in special if is_answer and token in self._ends]
        plain = self._special.sub("", text) if special else text
        fewer = {piece for piece in set(plain) - {ONLY_SPACES} if back.count(piece) < plain.count(piece)}
        missing += self.unknown(fewer | {DOUBLE_SPACE} if DOUBLE_SPACE in text else fewer)
        return [ONLY_SPACES, *missing] if SPACES.sub("", back) == SPACES.sub("", text.strip()) else missing

    def _with_special_tokens(self, text: str, is_answer: bool) -> str:
        """What is read back of `text` with the special tokens that it holds, up to one that ends an answer."""
        ids, ends = self.encode([text])[0], set(self._ends.values())
        if is_answer:
            ids = ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def is_lossy(missing: Missing) -> bool:
    """Whether more than spaces is missing."""
    return missing is not None and missing[:1] != [ONLY_SPACES]


def add_missing(batch: dict[str, list], encode: Callable[[dict], dict], round_trip: RoundTrip) -> dict[str, list]:
    """What `encode` makes of a batch of examples, and in `COLUMNS` what its tokens lack of the texts."""
    encoded = encode(batch)
    if "messages" in batch:
        chats = zip(batch["row"], *_missing_in_chats(batch["messages"], round_trip), strict=True)
        of_row = {name: sides for name, *sides in chats}  # of which a chat may have become several
        missing = [[of_row[name][side] for name in encoded["row"]] for side in range(len(COLUMNS))]
    else:
        missing = [
            round_trip.missing(batch["prompt"], encoded["source_ids"], is_answer=False),
            round_trip.missing(batch["ground_truth"], encoded["target_ids"], is_answer=True),
        ]
    as_json = [["" if row is None else json.dumps(row) for row in side] for side in missing]
    return encoded | dict(zip(COLUMNS, as_json, strict=True))


def _missing_in_chats(chats: list[str], round_trip: RoundTrip) -> list[list[Missing]]:
    """Of each chat, as JSON, what is missing in what the model reads, and in what the assistant says."""
    turns = [Chat.parse(chat).messages for chat in chats]
    sides: list[list[Missing]] = []
    for is_answer in (False, True):
        texts = [[text for turn in chat if (turn["role"] == "assistant") is is_answer for text in texts_in(turn)] for chat in turns]
        flat = [text for chat in texts for text in chat]
        found = iter(round_trip.missing(flat, round_trip.encode(flat), is_answer))
        sides.append([_together([next(found) for _ in chat]) for chat in texts])
    return sides


def _together(missing: list[Missing]) -> Missing:
    """What is missing in several texts of one row."""
    lossy = [pieces for pieces in missing if pieces is not None]
    if not lossy:
        return None
    pieces = list(dict.fromkeys(piece for one in lossy for piece in one))
    only_spaces = not any(map(is_lossy, lossy))
    return pieces if only_spaces else [piece for piece in pieces if piece != ONLY_SPACES]


def texts_in(message: object) -> Iterator[str]:
    """The texts of a chat's message, whatever holds them: its content or parts of it, a tool's arguments; not its role."""
    if isinstance(message, str):
        yield message
    elif isinstance(message, Mapping):
        for name, value in message.items():
            if name not in NO_TEXTS:
                yield from texts_in(value)
    elif isinstance(message, list | tuple):
        for part in message:
            yield from texts_in(part)
