"""What a person should see of the data before anything is paid for: counted once, kept in the summary of the prepared data."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

NEARLY_ALL = 0.95
SHOWN_LETTERS = 40


@dataclass(frozen=True)
class TableFacts:
    """Where rows come from, and what was made of them."""

    source: str
    rows: int
    kept: int
    """Rows that became examples."""
    left_out: tuple[str, ...] = ()
    """Names of the first rows that did not, having no input or no answer."""
    sheet: str | None = None
    shape: str = ""
    """What the table was recognised as."""
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    """Name and rows of each file, where there are several."""
    notes: tuple[str, ...] = ()
    """What a person should know of how they were read, a line each."""


@dataclass(frozen=True)
class Found:
    """How many rows have something, and what the first of them are called."""

    rows: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartCounts:
    """What was counted in the training rows, or in the held-out ones."""

    rows: int
    contradictory: Found = Found()
    """Rows whose input another row has too, with another answer; the first two, each with its answer behind it."""
    reachable: int = 0
    """Rows that are right when each input has the answer that it has most often: no more can match exactly."""
    repeated: Found = Found()
    """Rows that say what an earlier one says; the first, and the earlier one."""
    short_inputs: Found = Found()
    """Inputs of one or two characters."""
    wordless_answers: Found = Found()
    """Answers without a letter or a digit."""


@dataclass(frozen=True)
class Label:
    """An answer that many rows have."""

    text: str
    training: int
    held_out: int


@dataclass(frozen=True)
class Answers:
    """How many different answers there are in the training rows, and which are frequent."""

    different: int = 0
    frequent: tuple[Label, ...] = ()
    """At most ten, the most frequent first; none where no answer is frequent."""
    alike: tuple[tuple[str, ...], ...] = ()
    """Labels that differ in nothing but case, white space and sentence marks."""
    unseen: Found = Found()
    """Held-out rows whose label no training row has."""


@dataclass(frozen=True)
class Chats:
    """What the chats of a table are made of, training and held-out ones."""

    messages: dict[str, int] = field(default_factory=dict)
    """Messages a chat -> chats."""
    roles: dict[str, int] = field(default_factory=dict)
    """Role -> messages."""
    with_tools: int = 0


@dataclass(frozen=True)
class Piece:
    """A part of a row as the model sees it, special tokens and all."""

    text: str
    trained: bool
    """Whether the model learns to write it."""


@dataclass(frozen=True)
class FirstRow:
    """A training row as the model sees it."""

    name: str
    tokens: tuple[int, int]
    """That are read, that are learned."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Look:
    """All that was counted and kept to be shown."""

    tables: tuple[TableFacts, ...]
    """That of the training rows; that of the held-out rows, if they have one of their own."""
    training: PartCounts
    held_out: PartCounts
    answers: Answers = Answers()
    shared: Found = Found()
    """Held-out rows whose input is nearly that of a training row: the first, and that training row."""
    chats: Chats | None = None
    first: tuple[FirstRow, ...] = ()

    @classmethod
    def from_dict(cls, content: dict[str, Any] | None) -> Self | None:
        """What `asdict` made, read from JSON; None for None."""
        return None if content is None else TypeAdapter(cls).validate_python(content)

    def warnings(self) -> list[str]:
        """A line for each thing that limits what the scores can say or reach."""
        lines = (self._contradictions(), self._shared(), self._one_label(), *self._alike(), self._unseen())
        return [line for line in lines if line]

    def _contradictions(self) -> str:
        parts = {"training": self.training, "held-out": self.held_out}
        found = {name: part for name, part in parts.items() if part.contradictory.rows}
        if not found:
            return ""
        counts = " and ".join(f"{part.contradictory.rows:,} of {part.rows:,} {name}" for name, part in found.items())
        name, part = list(found.items())[-1]
        one, answer, other, another = part.contradictory.first
        return (
            f"{counts} rows have the input of another row and another answer, so exact match can reach at most {share(part)} on "
            f"the {name} rows; the first: {one} says {quote(answer)}, {other} {quote(another)}. Give them the same answer, or say "
            "in the input what makes the difference."
        )

    def _shared(self) -> str:
        if not self.shared.rows:
            return ""
        one, other = self.shared.first
        return (
            f"{self.shared.rows:,} of {self.held_out.rows:,} held-out inputs are those of training rows but for case, white space, "
            f"sentence marks or what was cut; the first: held-out {one} is training {other}. Their scores may be "
            "memory: take out one of each pair."
        )

    def _one_label(self) -> str:
        top = next(iter(self.answers.frequent), None)
        if top is None or top.training <= NEARLY_ALL * self.training.rows:
            return ""
        held_out = f" and {percent(top.held_out, self.held_out.rows)} of the held-out ones" if self.held_out.rows else ""
        return (
            f"{percent(top.training, self.training.rows)} of the training answers{held_out} are {quote(top.text)}: to always "
            "answer that is right as often. Add rows with other answers, or leave out many of these."
        )

    def _alike(self) -> Iterable[str]:
        if self.answers.alike:
            groups = "; ".join(" and ".join(map(quote, group)) for group in self.answers.alike[:3])
            yield (
                f"Labels differ in nothing but case, white space or sentence marks: {groups}. Exact match tells them apart: write "
                "each in one way."
            )

    def _unseen(self) -> str:
        found = self.answers.unseen
        return (
            f"{found.rows:,} of {self.held_out.rows:,} held-out rows have a label that no training row has; the first: "
            f"{found.first[0]}, {quote(found.first[1])}."
            if found.rows
            else ""
        )


def share(part: PartCounts) -> str:
    """What exact match can reach: `98.5 % (197 of 200)`."""
    return f"{percent(part.reachable, part.rows)} ({part.reachable:,} of {part.rows:,})"


def percent(count: int, total: int) -> str:
    """`98.5 %`; 100.0 % and 0.0 % only where it is all or nothing."""
    tenths = round(1000 * count / total) if total else 0
    tenths = min(tenths, 999) if count < total else tenths
    return f"{max(tenths, 1 if count else 0) / 10:.1f} %"


def quote(text: str) -> str:
    """A text in one short line."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= SHOWN_LETTERS else f'"{line[: SHOWN_LETTERS - 1]}…"'
