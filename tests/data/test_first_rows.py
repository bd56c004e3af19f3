"""The first rows as the model sees them: the texts of their own tokens, in turns of reading and writing."""

import pytest
from datasets import Dataset

from job.data.first_rows import KEPT_LETTERS, first_rows
from job.data.look import Piece


def make_rows(rows: list[tuple[list[int], list[int]]]) -> Dataset:
    names = [f"row {number}" for number in range(2, len(rows) + 2)]
    return Dataset.from_dict({"row": names, "input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]})


def test_of_an_encoder_decoder_the_input_is_read_and_the_labels_are_written(tokenizer):
    ids, labels = tokenizer("Input: noon\n{x}").input_ids, tokenizer(text_target="12:00").input_ids
    rows = first_rows(make_rows([(ids, labels)] * 5), tokenizer, seq2seq=True)
    assert [row.name for row in rows] == ["row 2", "row 3", "row 4"]
    assert rows[0].tokens == (len(ids), len(labels))
    assert rows[0].pieces == (Piece(tokenizer.decode(ids), False), Piece("12:00</s>", True))
    assert "<unk>" in rows[0].pieces[0].text, "what the tokenizer lacks is shown as what the model gets"


def test_of_one_sequence_each_turn_is_a_piece_and_together_they_are_the_whole(tokenizer):
    texts = ["the 3 of May", "is it?", "yes", "no</s>"]
    pieces = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    ids = [token for piece in pieces for token in piece]
    labels = [token if place % 2 else -100 for place, piece in enumerate(pieces) for token in piece]
    (row,) = first_rows(make_rows([(ids, labels)]), tokenizer, seq2seq=False)
    assert row.tokens == (len(pieces[0]) + len(pieces[2]), len(pieces[1]) + len(pieces[3]))
    assert [piece.trained for piece in row.pieces] == [False, True, False, True]
    assert "".join(piece.text for piece in row.pieces) == tokenizer.decode(ids)


@pytest.mark.parametrize("extra", [0, 5000])
def test_both_ends_of_a_very_long_piece_are_kept(tokenizer, monkeypatch, extra):
    monkeypatch.setattr(type(tokenizer), "decode", lambda _, ids, **__: "a" * (len(ids) - 1) + "z")
    (row,) = first_rows(make_rows([([5] * (KEPT_LETTERS + extra), [6])]), tokenizer, seq2seq=True)
    text = row.pieces[0].text
    assert (len(text) == KEPT_LETTERS) is (extra == 0)
    assert text.endswith("az")
    assert ("… 5,000 characters …" in text) is (extra > 0)
