"""How much of a data set the tokenizer cannot read or write: counted, told, and held against MAX_UNKNOWN_TARGETS.

Rows in which nothing but spaces differ (doubled, dropped, put in between) are told, but stop no run: people type double spaces
without meaning them, and most scores pass over them. Line breaks and tabs do count: code, lists and tables are made of them, and no
answer of one line is the right one of two.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from datasets import Dataset

from job.data.round_trip import COLUMNS, DOUBLE_SPACE, ONLY_SPACES, Missing, is_lossy
from job.data.token_lengths import ROWS_AT_ONCE
from job.errors import DataError
from job.tables.file_rows import first_of

SHOWN = 12
NAMES = {"\n": "line break", "\r": "carriage return", "\t": "tab", DOUBLE_SPACE: "two spaces in a row", '"': "'\"'"}
BYTE_MODEL = "a model that reads bytes, such as google/byt5-base"


@dataclass(frozen=True)
class UnknownPart:
    """What a tokenizer lacks of the inputs, or of the answers, of some rows."""

    rows: int
    lossy: int
    """Rows that do not come back from their tokens."""
    spaces: int = 0
    """Further rows, in which nothing but spaces differ."""
    characters: dict[str, int] = field(default_factory=dict)
    """What is missing -> the rows that have it, the most frequent first."""
    example: str = ""
    """Name of the first row that does not come back."""


@dataclass(frozen=True)
class UnknownText:
    """What a tokenizer lacks of the training rows and of the held-out ones, in this order; nothing where that is not known."""

    inputs: tuple[UnknownPart, ...] = ()
    answers: tuple[UnknownPart, ...] = ()
    added: tuple[str, ...] = ()
    """Characters that the tokenizer was given for these rows (ADD_TOKENS)."""

    @classmethod
    def from_dict(cls, content: dict) -> Self:
        """What `asdict` made, read from JSON."""
        inputs, answers = (tuple(UnknownPart(**part) for part in content.get(side, ())) for side in ("inputs", "answers"))
        return cls(inputs, answers, tuple(content.get("added", ())))

    def warnings(self, add_tokens: str) -> list[str]:
        """At most one line for the inputs and one for the answers, for a person. add_tokens: ADD_TOKENS as it is set."""
        lines = (_describe("inputs", self.inputs, add_tokens), _describe("answers", self.answers, add_tokens))
        return [line for line in lines if line]

    def describe_added(self) -> str:
        """One line about the characters that were added, empty if none were."""
        if not self.added:
            return ""
        return (
            f"Added to the tokenizer in the places of tokens that nobody uses: {list_characters(self.added)}. The base model is "
            "asked with the same tokenizer, but has never learned them. Use the adapter with the tokenizer in its folder."
        )

    def check(self, max_unknown_targets: float, add_tokens: str) -> None:
        """Raises DataError if more of the training rows' answers are lossy than a person allowed."""
        for answers in self.answers[:1]:
            share = answers.lossy / max(answers.rows, 1)
            if share > max_unknown_targets:
                raise DataError(
                    f"TRAIN_DATA: {answers.lossy} of {answers.rows} answers ({share:.1%}) hold what the model's tokenizer lacks, "
                    f"and the model can never write: {list_characters(answers.characters)}; the first is {answers.example}. "
                    f"MAX_UNKNOWN_TARGETS allows {max_unknown_targets:.1%}. "
                    f"{_advice('answers', answers.characters, add_tokens)}, or raise MAX_UNKNOWN_TARGETS."
                )


def count_unknown(tokenised: list[Dataset], added: tuple[str, ...]) -> UnknownText:
    """What is missing in the training and the held-out rows, by the columns that `round_trip.add_missing` has made."""
    inputs, answers = (tuple(_count(rows, column) for rows in tokenised) for column in COLUMNS)
    return UnknownText(inputs, answers, added)


def _count(rows: Dataset, column: str) -> UnknownPart:
    found: Counter[str] = Counter()
    example = ""
    for batch in rows.select_columns(["row", column]).with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        found.update({one["values"]: one["counts"] for one in batch[column].value_counts().to_pylist()})
        if not example:
            example = next((row["row"] for row in batch.to_pylist() if is_lossy(_parsed(row[column]))), "")
    characters: Counter[str] = Counter()
    lossy = spaces = 0
    for text, count in found.items():
        missing = _parsed(text)
        if missing is not None:
            lossy, spaces = (lossy + count, spaces) if is_lossy(missing) else (lossy, spaces + count)
            characters.update({piece: count for piece in missing if piece != ONLY_SPACES})
    return UnknownPart(len(rows), lossy, spaces, dict(characters.most_common()), example)


def _parsed(text: str) -> Missing:
    return json.loads(text) if text else None


def list_characters(pieces: Iterable[str]) -> str:
    """The first of `pieces`, readable: `"{", line break, U+200B ZERO WIDTH SPACE and 3 more`."""
    return first_of([*pieces], _readable, SHOWN) or "a combination of characters"


def is_special(piece: str) -> bool:
    """Whether what is missing is the text of a special token, not a character."""
    return len(piece) > 1 and piece != DOUBLE_SPACE


def _readable(piece: str) -> str:
    if piece in NAMES:
        return NAMES[piece]
    if len(piece) == 1 and unicodedata.category(piece)[0] in "CMZ":  # nothing to see: control, combining, separating
        return f"U+{ord(piece):04X} {unicodedata.name(piece, '')}".strip()
    return f'"{piece}"'


def _describe(side: str, parts: tuple[UnknownPart, ...], add_tokens: str) -> str | None:
    lossy, spaces = sum(part.lossy for part in parts), sum(part.spaces for part in parts)
    if not lossy:
        rows = sum(part.rows for part in parts)
        return f"In {spaces} of {rows} {side} the tokenizer changes the number of spaces, and nothing else." if spaces else None
    names = zip(parts, ("training", "held-out"), strict=True)
    counts = " and ".join(f"{part.lossy} of {part.rows} {name}" for part, name in names)
    missing = sum((Counter(part.characters) for part in parts), Counter()).most_common()
    pieces = [piece for piece, _ in missing]
    example = next(part.example for part in parts if part.example)
    more = f"; in {spaces} more only spaces change" if spaces else ""
    return (
        f"{counts} {side} hold what the model's tokenizer lacks: {list_characters(pieces)}; the first is {example}{more}. "
        f"{_advice(side, pieces, add_tokens)}."
    )


def _advice(side: str, missing: Iterable[str], add_tokens: str) -> str:
    """What to do, a sentence without its end."""
    pieces = list(missing)
    ends = [piece for piece in pieces if is_special(piece)]
    advice = [f"take {list_characters(ends)} out of the answers, which end there"] if ends else []
    if len(ends) < len(pieces) or not ends:
        if side == "inputs":
            advice.append("if they matter, name them in ADD_TOKENS")
        elif all(piece.isupper() for piece in pieces if piece not in ends) and pieces:
            advice.append("write the answers in small letters, as the tokenizer does")
        elif add_tokens != "auto":
            advice.append("set ADD_TOKENS=auto, which teaches the model to write them")
        advice.append(f"choose {BYTE_MODEL}")
    text = ", or ".join(advice)
    return text[0].upper() + text[1:]
