"""How long inputs and answers may be, and what is lost by it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from job.errors import DataError, SettingsError
from job.tables.file_rows import first_of

Lengths = Sequence[int] | np.ndarray
"""Tokens of each row."""


@dataclass(frozen=True)
class LengthLimits:
    """What a model takes, in tokens."""

    usual: int | None
    """Length it was trained for; `auto` does not go beyond it."""
    hard: int | None
    """Length beyond which it has no positions."""
    shared: bool
    """Whether input and answer stand in one sequence (a causal model)."""
    hard_target: int | None = None
    """The same of answers, where these have positions of their own."""


@dataclass(frozen=True)
class Truncation:
    """What `max_source_length` and `max_target_length` (tokens) cost a dataset."""

    rows: int
    max_source_length: int
    max_target_length: int
    sources_cut: int
    source_tokens_cut: int
    targets_cut: int
    """Answers that lost their end, and with it their end marker."""
    target_tokens_cut: int
    dropped: tuple[str, ...] = ()
    """Names of the rows that were left out."""

    def describe(self, name: str) -> str:
        """One line for a person."""
        text = f"{name}: {self.rows} rows, inputs up to {self.max_source_length} tokens, answers up to {self.max_target_length}"
        if self.sources_cut or self.targets_cut:
            text += (
                f"; cut: {self.sources_cut} inputs ({self.source_tokens_cut} tokens), {self.targets_cut} answers "
                f"({self.target_tokens_cut} tokens, their end marker lost)"
            )
        if self.dropped:
            text += f"; dropped: {first_of(self.dropped)}"
        return text

    def as_dict(self) -> dict:
        return asdict(self)


def choose_lengths(
    sources: tuple[Lengths, Lengths], targets: tuple[Lengths, Lengths], wanted: tuple[str, str], limits: LengthLimits
) -> tuple[int, int]:
    """The longest source and the longest target to keep, in tokens.

    sources, targets: lengths of the training rows and of the held-out rows. wanted: MAX_SOURCE_LENGTH and MAX_TARGET_LENGTH
    ("auto", "p85", "256"). Raises SettingsError for numbers that the model has no positions for.
    """
    max_source, max_target = _resolve(*sources, wanted[0]), _resolve(*targets, wanted[1])
    usual, hard = limits.usual or limits.hard, limits.hard
    if limits.shared:
        if usual and wanted[1] == "auto":
            max_target = min(max_target, usual - 1)
        if usual and wanted[0] == "auto":
            max_source = max(1, min(max_source, usual - max_target))
        _check_positions(max_source + max_target, hard, "MAX_SOURCE_LENGTH + MAX_TARGET_LENGTH")
        return max_source, max_target
    usual_target = min((length for length in (limits.usual, limits.hard_target) if length), default=None)
    max_source = min(max_source, usual) if usual and wanted[0] == "auto" else max_source
    max_target = min(max_target, usual_target) if usual_target and wanted[1] == "auto" else max_target
    _check_positions(max_source, hard, "MAX_SOURCE_LENGTH")
    _check_positions(max_target, limits.hard_target, "MAX_TARGET_LENGTH")
    return max_source, max_target


def _resolve(training: Lengths, held_out: Lengths, wanted: str) -> int:
    longest = int(max(np.max(training), np.max(held_out)))
    if wanted == "auto":
        return longest
    if wanted.startswith("p"):
        return max(1, int(np.percentile(training, int(wanted[1:]))))
    return min(int(wanted), longest)


def _check_positions(length: int, hard: int | None, variable: str) -> None:
    if hard and length > hard:
        raise SettingsError(f"{variable}: {length} tokens, but the model has positions for {hard}. Set it to at most {hard}.")


def measure_truncation(sources: Lengths, targets: Lengths, longest: tuple[int, int]) -> Truncation:
    """What keeping `longest` (source, target) tokens would cut from rows of these lengths."""
    over_source = np.maximum(np.asarray(sources) - longest[0], 0)
    over_target = np.maximum(np.asarray(targets) - longest[1], 0)
    return Truncation(
        rows=len(sources),
        max_source_length=longest[0],
        max_target_length=longest[1],
        sources_cut=int((over_source > 0).sum()),
        source_tokens_cut=int(over_source.sum()),
        targets_cut=int((over_target > 0).sum()),
        target_tokens_cut=int(over_target.sum()),
    )


def check_truncation(cut: Truncation, max_truncated_targets: float, too_long: str, rows: str) -> None:
    """Raises DataError if more is cut than a person allowed. rows: which they are, for the message."""
    share = cut.targets_cut / max(cut.rows, 1)
    if too_long == "error" and (cut.sources_cut or cut.targets_cut):
        raise DataError(
            f"TOO_LONG=error, {rows}: {cut.sources_cut} inputs and {cut.targets_cut} answers are longer than "
            f"{cut.max_source_length} and {cut.max_target_length} tokens. Raise MAX_SOURCE_LENGTH or MAX_TARGET_LENGTH, "
            "or set TOO_LONG."
        )
    if too_long == "truncate" and share > max_truncated_targets:
        raise DataError(
            f"{rows}: {cut.targets_cut} of {cut.rows} answers ({share:.1%}) are longer than {cut.max_target_length} tokens and "
            f"would lose their end; MAX_TRUNCATED_TARGETS allows {max_truncated_targets:.1%}. Raise MAX_TARGET_LENGTH, "
            "shorten the answers, or raise MAX_TRUNCATED_TARGETS."
        )
