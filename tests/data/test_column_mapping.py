"""What to take from a table."""

from dataclasses import replace

from job.data.column_mapping import AUTO, ColumnMapping, as_spelt

ALL_AUTO = ColumnMapping(AUTO, AUTO, AUTO, AUTO)


def test_auto_stands_for_the_names_that_were_the_defaults_before():
    assert ALL_AUTO.without_auto() == ColumnMapping("input", "output_ground_truth", "messages", "Input: {input}")
    assert replace(ALL_AUTO, input="q").without_auto().input == "q"


def test_rows_of_the_usual_names_depend_on_what_they_did_before_there_was_auto():
    before = {
        "input": "input",
        "target": "output_ground_truth",
        "messages": "messages",
        "template": "Input: {input}",
        "preprocess": None,
    }
    assert ALL_AUTO.identity() == before
    assert replace(ALL_AUTO, languages=("en", "de")).identity() == before
    assert replace(ALL_AUTO, empty_rows="drop").identity() == before | {"empty_rows": "drop"}


def test_columns_that_a_person_names_are_spelt_as_the_table_spells_them_and_what_is_to_be_recognised_stays_so():
    wanted = ColumnMapping("question", AUTO, "chats", "{question}")
    assert as_spelt(wanted, ["Question ", "Auto", "x"]) == ColumnMapping("Question ", AUTO, "chats", "{question}")
