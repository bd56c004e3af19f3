"""The first rows as the model sees them, decoded from the very tokens that are trained on."""

from itertools import groupby, pairwise

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from job.data.look import FirstRow, Piece
from job.data.row_counts import row_name

SHOWN_ROWS = 3
KEPT_LETTERS = 20_000
"""Of each piece; of longer ones both ends are kept."""

Ids = list[int]


def first_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase, seq2seq: bool) -> tuple[FirstRow, ...]:
    """The first three of `rows`. seq2seq: whether inputs and answers stand apart, else a label stands for each token."""
    return tuple(_first_row(rows, index, tokenizer, seq2seq) for index in range(min(SHOWN_ROWS, len(rows))))


def _first_row(rows: Dataset, index: int, tokenizer: PreTrainedTokenizerBase, seq2seq: bool) -> FirstRow:
    ids, labels = rows[index]["input_ids"], rows[index]["labels"]
    if seq2seq:
        pieces = [Piece(_decode(ids, tokenizer), False), Piece(_decode(labels, tokenizer), True)]
        tokens = (len(ids), len(labels))
    else:
        pieces = _pieces(ids, [label >= 0 for label in labels], tokenizer)
        learned = sum(label >= 0 for label in labels)
        tokens = (len(ids) - learned, learned)
    return FirstRow(row_name(rows, index), tokens, tuple(Piece(_shortened(piece.text), piece.trained) for piece in pieces))


def _pieces(ids: Ids, trained: list[bool], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
    """What is read and what is learned, in turns."""
    ends = [0]
    for _, run in groupby(trained):
        ends.append(ends[-1] + len(list(run)))
    return [Piece(_between(ids, start, end, tokenizer), trained[start]) for start, end in pairwise(ends)]


def _between(ids: Ids, start: int, end: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the tokens from `start` to `end`, with the space that a tokenizer drops where a text begins."""
    before, text = _decode(ids[:start], tokenizer), _decode(ids[:end], tokenizer)
    return text.removeprefix(before) if text.startswith(before) else _decode(ids[start:end], tokenizer)


def _decode(ids: Ids, tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _shortened(text: str) -> str:
    half = KEPT_LETTERS // 2
    return text if len(text) <= KEPT_LETTERS else f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"
