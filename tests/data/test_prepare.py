"""Preparing: once for the same content, whole or not at all, every lost row named."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from job.data import prepare as module
from job.data.column_mapping import ColumnMapping
from job.data.data_config import DataConfig, ModelSpec
from job.data.lengths import LengthLimits
from job.data.look import Found
from job.data.prepare import prepare
from job.data.prepared import SUMMARY, load_prepared
from job.data.unknown_text import UnknownText
from job.errors import DataError, SettingsError
from job.tables.table import Source
from tests.data.chat_templates import QWEN3, make_tokenizer

SYSTEM = {"role": "system", "content": "be brief"}


def test_the_same_content_is_not_prepared_again_wherever_it_lies(request_, reader, tmp_path, monkeypatch):
    first = prepare(request_, reader, tmp_path / "data")
    monkeypatch.setattr(module, "tokenise_adding", None)
    Path(request_.train.location).rename("moved.csv")
    moved = replace(request_, train=Source("TRAIN_DATA", "moved.csv"))
    assert prepare(moved, reader, tmp_path / "data").train.to_list() == first.train.to_list()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"eval_fraction": 0.5},
        {"max_lengths": ("5", "auto")},
        {"columns": ColumnMapping("input", "output_ground_truth", "messages", "{input}")},
    ],
)
def test_other_settings_are_prepared_anew(request_, reader, tmp_path, change):
    first = prepare(request_, reader, tmp_path / "data")
    assert prepare(replace(request_, **change), reader, tmp_path / "data").fingerprint != first.fingerprint


def test_a_changed_cell_is_prepared_anew(request_, reader, tmp_path):
    first = prepare(request_, reader, tmp_path / "data")
    path = Path(request_.train.location)
    path.write_text(path.read_text().replace("05-07", "05-77"))
    assert prepare(request_, reader, tmp_path / "data").fingerprint != first.fingerprint


def test_a_changed_preprocess_function_is_prepared_anew(request_, reader, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def same(row):\n    return row\n")
    asked = replace(request_, columns=replace(request_.columns, preprocess=f"{own}:same"))
    first = prepare(asked, reader, tmp_path / "data")
    own.write_text("def same(row):\n    return row | {'input': row['input'] + '!'}\n")
    assert prepare(asked, reader, tmp_path / "data").fingerprint != first.fingerprint


def test_rows_that_changed_on_the_disk_are_prepared_anew(request_, reader, tmp_path, caplog):
    first = prepare(request_, reader, tmp_path / "data").evaluation.to_dict()
    path = next((tmp_path / "data" / "eval").glob("*.arrow"))
    content = path.read_bytes()
    assert content.count(b"of May") > 1
    path.write_bytes(content.replace(b"of May", b"of Mai"))
    assert prepare(request_, reader, tmp_path / "data").evaluation.to_dict() == first
    assert f"eval/{path.name} is not what was written: the prepared data there is not used" in caplog.text
    assert path.read_bytes() == content


def test_a_preparation_that_was_interrupted_is_not_taken_for_whole(request_, reader, tmp_path):
    (tmp_path / "data.partial" / "train").mkdir(parents=True)
    assert load_prepared(tmp_path / "data") is None
    assert len(prepare(request_, reader, tmp_path / "data").train) == 32
    assert not (tmp_path / "data.partial").exists()


def test_rows_that_are_dropped_are_named(request_, reader, tmp_path, write_rows, questions):
    questions[4]["input"] = "a very long question " * 10
    asked = replace(request_, train=Source("TRAIN_DATA", str(write_rows(questions))), max_lengths=("20", "auto"), too_long="drop")
    prepared = prepare(asked, reader, tmp_path / "data")
    assert prepared.train_truncation.dropped + prepared.eval_truncation.dropped == ("row 6",)
    assert len(prepared.train) + len(prepared.evaluation) == 39


def test_a_chat_whose_answer_was_cut_away_is_dropped_and_named(llama_folder, request_, tmp_path, write_rows):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    chats = [[{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": "yes"}] for n in range(20)]
    chats[3][0]["content"] = "so many words that no place is left " * 3
    path = write_rows([{"messages": chat} for chat in chats], "chats.jsonl")
    asked = replace(request_, train=Source("TRAIN_DATA", str(path)), max_lengths=("30", "auto"), max_truncated_targets=0.5)
    prepared = prepare(asked, ModelSpec(tokenizer, False, LengthLimits(256, 256, shared=True)), tmp_path / "data")
    assert prepared.train_truncation.dropped + prepared.eval_truncation.dropped == ("row 4",)


def test_a_template_that_strips_earlier_thoughts_makes_a_training_row_of_each_answer_and_asks_for_the_last(
    request_, tmp_path, write_rows
):
    tokenizer = make_tokenizer(QWEN3)
    turns = [[{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}] for n in range(40)]
    path = write_rows(
        [{"messages": [SYSTEM, *first, *second]} for first, second in zip(turns[:20], turns[20:], strict=True)], "a.jsonl"
    )
    asked = replace(request_, train=Source("TRAIN_DATA", str(path)), max_lengths=("auto", "auto"))
    prepared = prepare(asked, ModelSpec(tokenizer, False, LengthLimits(256, 256, shared=True)), tmp_path / "data")
    assert len(prepared.train) == 2 * (20 - len(prepared.evaluation))
    assert all(int(truth.split()[-1]) >= 20 for truth in prepared.evaluation["ground_truth"])
    assert prepared.opening == {"messages": [SYSTEM], "tools": None}
    for row in [*prepared.train, *prepared.evaluation]:
        assert tokenizer.decode([label for label in row["labels"] if label != -100]) == row["ground_truth"] + "<|im_end|>"


@pytest.mark.parametrize("part", ["train", "evaluation"])
def test_a_token_that_the_model_has_no_embedding_for_is_told_with_its_file_and_row(request_, reader, tmp_path, write_rows, part):
    tokenizer = copy.deepcopy(reader.tokenizer)
    tokenizer.add_tokens("<new>")
    questions = [{"input": f"the {number} of May", "output_ground_truth": "x"} for number in range(1, 41)]
    others = [{"input": f"the {number} of June", "output_ground_truth": "x"} for number in range(1, 41)]
    (questions if part == "train" else others)[6]["input"] = "<new> and 7"
    sources = [Source("TRAIN_DATA", str(write_rows(questions, "a.csv"))), Source("EVAL_DATA", str(write_rows(others, "b.csv")))]
    asked = replace(request_, train=sources[0], evaluation=sources[1])
    token = len(tokenizer) - 1
    file = "a.csv" if part == "train" else "b.csv"
    with pytest.raises(DataError, match=rf'{file}: row 8: "<new>" is token {token}, and the model has {token} embeddings'):
        prepare(asked, replace(reader, tokenizer=tokenizer, embeddings=token), tmp_path / "data")
    assert len(prepare(asked, replace(reader, tokenizer=tokenizer, embeddings=token + 1), tmp_path / "data").train) == 40


@pytest.fixture
def lossy(request_, write_rows, questions) -> DataConfig:
    """Forty rows, of whose answers four hold a letter that the embedded tokenizer lacks."""
    for question in questions[:4]:
        question["output_ground_truth"] += " 北"
    return replace(request_, train=Source("TRAIN_DATA", str(write_rows(questions, "lossy.csv"))), max_unknown_targets=1)


def test_answers_that_the_tokenizer_lacks_are_counted_and_kept_with_the_rows(lossy, reader, tmp_path):
    made, read = prepare(lossy, reader, tmp_path / "data"), load_prepared(tmp_path / "data")
    assert made.unknown == read.unknown
    answers = made.unknown.answers
    assert (answers[0].rows, answers[1].rows, answers[0].lossy + answers[1].lossy) == (32, 8, 4)
    assert answers[0].characters == {"北": answers[0].lossy}
    assert [part.lossy for part in made.unknown.inputs] == [0, 0]


def test_too_many_of_them_stop_the_preparation_and_leave_nothing(lossy, reader, tmp_path):
    with pytest.raises(DataError, match=r'of 32 answers .* "北"; the first is row [2-5]'):
        prepare(replace(lossy, max_unknown_targets=0.01), reader, tmp_path / "data")
    assert load_prepared(tmp_path / "data") is None


def test_a_lower_limit_holds_for_rows_that_were_prepared_before(lossy, reader, tmp_path):
    first = prepare(lossy, reader, tmp_path / "data")
    with pytest.raises(DataError, match=r"MAX_UNKNOWN_TARGETS allows 2\.0%"):
        prepare(replace(lossy, max_unknown_targets=0.02), reader, tmp_path / "data")
    assert load_prepared(tmp_path / "data").fingerprint == first.fingerprint


def test_added_tokens_are_prepared_anew_and_the_limit_is_not(lossy, reader, tmp_path):
    first = prepare(lossy, reader, tmp_path / "data").fingerprint
    assert prepare(replace(lossy, max_unknown_targets=0.9), reader, tmp_path / "data").fingerprint == first
    with pytest.raises(SettingsError, match="0 spare tokens"):
        prepare(replace(lossy, add_tokens="auto"), reader, tmp_path / "data")
    assert prepare(replace(lossy, add_tokens="abc"), reader, tmp_path / "data").fingerprint != first


def test_a_summary_of_before_says_nothing_of_unknown_text(lossy, reader, tmp_path):
    prepare(lossy, reader, tmp_path / "data")
    path = tmp_path / "data" / SUMMARY
    summary = json.loads(path.read_text())
    del summary["unknown"], summary["sealed"]
    path.write_text(json.dumps(summary))
    assert load_prepared(tmp_path / "data").unknown == UnknownText()


def test_the_test_part_of_a_folder_is_what_is_held_out_and_is_not_trained_on(request_, reader, tmp_path):
    """Another share that is held out changes nothing then, and own_held_out=False splits the training part alone."""
    (tmp_path / "d").mkdir()
    rows = Path(request_.train.location).read_text().splitlines()
    (tmp_path / "d" / "train.csv").write_text("\n".join(rows[:15]) + "\n")
    (tmp_path / "d" / "test.csv").write_text("\n".join([rows[0], *rows[15:18]]) + "\n")
    asked = replace(request_, train=Source("TRAIN_DATA", str(tmp_path / "d")))
    made = prepare(asked, reader, tmp_path / "data")
    assert [row["input"] for row in made.evaluation] == [row.split(",")[0] for row in rows[15:18]]
    assert len(made.train) == 14
    split = prepare(replace(asked, own_held_out=False), reader, tmp_path / "split")
    assert {row["input"] for row in split.evaluation} <= {row["input"] for row in made.train}
    assert len(split.train) + len(split.evaluation) == 14


def test_a_row_that_is_in_both_parts_of_a_folder_is_told_by_its_files(request_, reader, tmp_path):
    (tmp_path / "d").mkdir()
    rows = Path(request_.train.location).read_text()
    (tmp_path / "d" / "train.csv").write_text(rows)
    (tmp_path / "d" / "test.csv").write_text(rows + "x,y\n")
    with pytest.raises(DataError, match=r"the first is test.csv row 2, which is train.csv row 2 of TRAIN_DATA="):
        prepare(replace(request_, train=Source("TRAIN_DATA", str(tmp_path / "d"))), reader, tmp_path / "data")


def test_the_look_is_that_of_the_rows_that_are_trained_on(request_, reader, write_rows, questions, tmp_path):
    questions[5] = questions[4] | {"output_ground_truth": "none"}
    questions[6] = questions[6] | {"output_ground_truth": ""}
    asked = replace(
        request_, train=Source("TRAIN_DATA", str(write_rows(questions))), columns=replace(request_.columns, empty_rows="drop")
    )
    made = prepare(asked, reader, tmp_path / "data")
    look = made.look
    assert look == load_prepared(tmp_path / "data").look
    (table,) = look.tables
    assert (table.rows, table.kept, table.left_out) == (40, 39, ("row 8",))
    assert (look.training.rows, look.held_out.rows) == (len(made.train), len(made.evaluation))
    contradictory = look.training.contradictory, look.held_out.contradictory
    assert sum(found.rows for found in contradictory) == 2, "both on one side"
    assert next(found.first for found in contradictory if found.rows) == ("row 6", "05-05", "row 7", "none")
    assert [row.name for row in look.first] == made.train["row"][:3]
    assert look.first[0].pieces[0].text == f"Input: {made.train[0]['input']}</s>"


def test_near_duplicates_of_held_out_rows_are_found_by_their_prompts(request_, reader, write_rows, questions, tmp_path):
    held_out = [{"input": f"The {number} of may.", "output_ground_truth": "x"} for number in (3, 50)]
    asked = replace(request_, evaluation=Source("EVAL_DATA", str(write_rows(held_out, "eval.csv"))))
    look = prepare(asked, reader, tmp_path / "data").look
    assert look.shared == Found(1, ("row 2", "row 4"))
    assert [table.source.rpartition("/")[2] for table in look.tables] == ["rows.csv", "eval.csv"]
