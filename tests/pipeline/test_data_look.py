"""What is shown of the data, against the rows that it was made from."""

from dataclasses import replace

import pytest

from job.data.look import Chats, Found
from job.data.unknown_text import UnknownPart, UnknownText
from job.pipeline.data_look import data_page, data_warnings, length_plots


@pytest.fixture
def prepared(make_context):
    return make_context().prepared


def facts_of(prepared) -> dict[str, str]:
    return dict(data_page("r", prepared, "none").facts)


def test_table_columns_and_rows_are_those_of_the_run(prepared):
    facts = facts_of(prepared)
    assert facts["training data"].endswith("rows.csv: 40 rows")
    assert facts["read as"].endswith('from "input", "output_ground_truth"')
    assert facts["training rows"].startswith("32 rows, inputs up to ")
    assert facts["exact match"] == "can reach 100.0 % (8 of 8) of the held-out rows"
    assert (facts["contradictions"], facts["repeated rows"]) == ("none", "none")
    assert facts["answers"] == "32 different ones in the training rows"
    assert "not used" not in facts
    assert data_page("r", prepared, "none").subtitle == "32 training rows, 8 held out"


def test_columns_that_nobody_reads_files_notes_and_rows_left_out_are_told(prepared):
    table = replace(
        prepared.look.tables[0], sheet="May", kept=33, left_out=("row 3", "row 7"), unused=("id", "date"),
        files=(("a.csv", 30), ("b.csv", 10)), notes=("2 hidden rows are left out",),
    )  # fmt: skip
    facts = facts_of(replace(prepared, look=replace(prepared.look, tables=(table, table))))
    assert facts["held-out data"].endswith('rows.csv, sheet "May": 40 rows, of a.csv (30), b.csv (10)')
    assert facts["not used"] == '"id", "date"'
    assert facts["left out"] == "7 rows without an input or an answer: row 3, row 7 and more"
    assert facts["note"] == "2 hidden rows are left out"


def test_counts_that_matter_are_told_with_their_first_row(prepared):
    look = prepared.look
    part = replace(
        look.training, contradictory=Found(4, ("row 2", "a", "row 3", "b")), repeated=Found(2, ("row 9", "row 8")),
        short_inputs=Found(1, ("row 5",)), wordless_answers=Found(3, ("row 6",)),
    )  # fmt: skip
    chats = Chats({"2": 3, "4": 1, "6": 1}, {"user": 6, "assistant": 6}, 2)
    facts = facts_of(replace(prepared, look=replace(look, training=part, shared=Found(1, ("row 30", "row 2")), chats=chats)))
    assert facts["contradictions"] == "4 of 32 training rows (the first: row 2): the same input, another answer"
    assert facts["repeated rows"] == "2 of 32 training rows (the first: row 9): the same input, the same answer"
    assert facts["short inputs"] == "1 of 32 training rows (the first: row 5): one or two characters"
    assert facts["wordless answers"] == "3 of 32 training rows (the first: row 6): no letter and no digit"
    assert facts["near-duplicates"].startswith(
        "1 held-out inputs are in training too, the first: held-out row 30 is training row 2"
    )
    assert facts["chats"] == "2 to 6 messages, median 2; messages by role: user 6, assistant 6; 2 chats with tools"


def test_lengths_are_the_quantiles_of_the_training_rows(prepared):
    counted = replace(prepared, source_lengths={"3": 50, "10": 49, "70": 1}, target_lengths={"2": 9})
    (table,) = data_page("r", counted, "none").tables
    longest = prepared.train_truncation.max_source_length
    assert table.lines[0] == ("inputs", "3", "3", "10", "70", str(longest))
    assert table.lines[1][:5] == ("answers", "2", "2", "2", "2")
    assert len(length_plots(counted)) == 2
    chats = replace(counted, chat=True)
    assert data_page("r", chats, "none").tables[0].lines[0][0] == "chats"
    assert length_plots(chats)[0]["caption"] == "Training rows by tokens a chat, before the cut"


def test_labels_are_shown_with_their_shares(make_context, write_rows):
    rows = [{"input": f"ticket {number}", "output_ground_truth": "bug" if number % 4 else "wish"} for number in range(40)]
    prepared = make_context(train_data=write_rows(rows, "labels.csv").name).prepared
    table = next(table for table in data_page("r", prepared, "none").tables if table.title == "Answers")
    trained = list(prepared.train["ground_truth"])
    bugs = trained.count("bug")
    assert table.lines[0][:3] == ("bug", str(bugs), f"{100 * bugs / 32:.1f} %")
    assert int(table.lines[0][3]) + int(table.lines[1][3]) == 8


def test_the_first_rows_are_those_of_the_training_data(prepared, t5_folder, tokenizer):
    page = data_page("r", prepared, "none")
    for row, shown in zip(prepared.train.select(range(3)), page.rows, strict=True):
        assert shown.name.startswith(f"{row['row']}: reads {len(row['input_ids'])} tokens, learns to write {len(row['labels'])}")
        read, written = tokenizer.decode(row["input_ids"]), tokenizer.decode(row["labels"])
        assert shown.pieces == (("reads", read), ("writes", written))


def test_what_the_tokenizer_lacks_is_told(prepared):
    assert facts_of(prepared)["unknown characters"] == "none: the tokenizer can read and write every text"
    inputs = UnknownPart(32, 2, 0, {"{": 2}, "row 4"), UnknownPart(8, 0)
    lossy = UnknownText(inputs, (UnknownPart(32, 0), UnknownPart(8, 1, 0, {"}": 1}, "row 9")))
    told = replace(prepared, unknown=lossy)
    assert facts_of(told)["unknown characters"] == "in 2 inputs and in 1 answers"
    assert len(data_warnings(told, "none")) == 2


def test_what_an_older_version_prepared_is_shown_as_far_as_it_is_known(prepared):
    page = data_page("r", replace(prepared, look=None, source_lengths={}, target_lengths={}, unknown=UnknownText()), "none")
    assert [name for name, _ in page.facts] == ["training rows", "held-out rows"]
    assert (page.tables, page.rows, page.warnings) == ((), (), ())
