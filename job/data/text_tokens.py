"""Text -> tokens that know where their text is, and the places where text must be split so that no token reaches over them."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter

from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Where a part of a text begins and ends."""
Token = tuple[int, int, int]
"""Id, and where its text begins and ends."""


def tokens_of(text: str, tokenizer: PreTrainedTokenizerBase, follows: bool = False) -> list[Token]:
    """The tokens of `text`, all of it for each where the tokenizer does not say.

    follows: it stands behind other text, without the space that some tokenizers put before the first word.
    """
    lead = "\n" if follows else ""
    found = tokenizer(lead + text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    offsets = found["offset_mapping"] if tokenizer.is_fast else [(len(lead), len(lead) + len(text))] * len(found.input_ids)
    tokens = [(token, begin - len(lead), end - len(lead)) for token, (begin, end) in zip(found.input_ids, offsets, strict=True)]
    led = tokenizer(lead, add_special_tokens=False).input_ids if follows else []
    return tokens[len(led) :] if found.input_ids[: len(led)] == led else tokens_of(text, tokenizer)


def split_places(tokens: Sequence[Token], spans: Sequence[Span], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Where `spans` begin in the midst of a token; all places where they begin or end, if the tokenizer does not say."""
    if not tokenizer.is_fast:
        return [place for span in spans for place in span]
    firsts = ((start, _first(tokens, start)) for start, _ in spans)
    return [start for start, first in firsts if first < len(tokens) and tokens[first][1] < start]


def tokens_around(text: str, spans: Sequence[Span], tokenizer: PreTrainedTokenizerBase) -> list[Token]:
    """The tokens of `text`, none of which reaches over the beginning of one of `spans`."""
    tokens = tokens_of(text, tokenizer)
    if not (places := split_places(tokens, spans, tokenizer)):
        return tokens
    return [
        (token, first + begin, first + end)
        for first, stop in pairwise([0, *places, len(text)])
        for token, begin, end in tokens_of(text[first:stop], tokenizer, follows=first > 0)
    ]


def covered_tokens(tokens: Sequence[Token], span: Span) -> slice:
    """The indices of the tokens that have text in `span`."""
    return slice(_first(tokens, span[0]), bisect_left(tokens, span[1], key=itemgetter(1)))


def _first(tokens: Sequence[Token], start: int) -> int:
    """The index of the first token that has text behind `start`, or none at all there."""
    return bisect_right(tokens, start, key=lambda token: max(token[2], token[1] + 1))
