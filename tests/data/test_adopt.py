"""Rows that were tokenised elsewhere are trained on as they are, or refused with what to do."""

from dataclasses import replace

import pytest

from job.data.data_config import ModelSpec
from job.data.lengths import LengthLimits
from job.data.prepare import prepare
from job.errors import DataError, SettingsError
from job.tables.table import Source
from tests.data.chat_templates import CHATML, make_tokenizer

SYSTEM = {"role": "system", "content": "be brief"}


def test_rows_of_tokens_from_a_folder_that_changed_are_refused(request_, reader, tmp_path):
    prepare(request_, reader, tmp_path / "data")
    (tmp_path / "data" / "manifest.json").unlink()
    other = replace(request_, train=Source("TRAIN_DATA", str(tmp_path / "data" / "train")))
    with pytest.raises(DataError, match=r"data is not as `prepare` left it. Prepare it again"):
        prepare(other, reader, tmp_path / "other")


def test_chats_that_were_prepared_elsewhere_are_still_chats(request_, tmp_path, write_rows):
    model = ModelSpec(make_tokenizer(CHATML), False, LengthLimits(256, 256, shared=True))
    chats = [[SYSTEM, {"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": "yes"}] for n in range(20)]
    asked = replace(request_, train=Source("TRAIN_DATA", str(write_rows([{"messages": chat} for chat in chats], "a.jsonl"))))
    there = prepare(asked, model, tmp_path / "laptop")
    adopted = replace(asked, train=Source("TRAIN_DATA", str(tmp_path / "laptop" / "train")))
    here = prepare(adopted, model, tmp_path / "data")
    assert (here.chat, here.opening) == (there.chat, there.opening) == (True, {"messages": [SYSTEM], "tools": None})


def test_rows_of_tokens_cannot_be_given_further_ones(request_, reader, tmp_path):
    made = prepare(request_, reader, tmp_path / "data")
    assert len(made.train) == 32
    adopted = replace(request_, train=Source("TRAIN_DATA", str(tmp_path / "data" / "train")), add_tokens="auto")
    with pytest.raises(SettingsError, match=r"ADD_TOKENS=auto: the rows of .* are tokens already. Set ADD_TOKENS=none\."):
        prepare(adopted, reader, tmp_path / "other")


def test_rows_that_were_tokenised_before_are_looked_at_too(request_, reader, tmp_path):
    first = prepare(request_, reader, tmp_path / "data")
    adopted = replace(request_, train=Source("TRAIN_DATA", str(tmp_path / "data" / "train")))
    look = prepare(adopted, reader, tmp_path / "other").look
    assert look.training.rows + look.held_out.rows == len(first.train)
    assert look.tables[0].used == ("input_ids", "labels")
    without = first.train.remove_columns(["input", "ground_truth"])
    without.save_to_disk(str(tmp_path / "bare"))
    bare = prepare(replace(request_, train=Source("TRAIN_DATA", str(tmp_path / "bare"))), reader, tmp_path / "third")
    assert bare.look is None
