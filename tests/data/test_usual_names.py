"""The usual names and the prompts that belong to them."""

import pytest

from job.data.template import Template
from job.data.usual_names import USUAL, Usual

BY_KIND = {usual.kind: usual for usual in reversed(USUAL)}


def template(usual: Usual, *names: str) -> str:
    return usual.template({name: name for name in names})


def test_every_prompt_reads_all_its_columns():
    for usual in USUAL:
        names = {name: name for name in (*usual.inputs, *usual.optional)}
        found = Template(usual.template(names), usual.inputs[0])
        assert set(found.columns) == set(names), usual.kind


def test_a_single_column_is_put_in_as_the_job_always_did_and_a_prompt_as_it_is():
    assert template(BY_KIND["question and answer"], "question", "answer") == "Input: {input}"
    assert template(BY_KIND["prompt and completion"], "prompt", "completion") == "{input}"


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "Say it.", "input": "x"}, "Say it. Input: x"),
        ({"instruction": "Say it.", "input": ""}, "Say it."),
        ({"instruction": "Say it.", "input": "", "system": "Be brief.", "history": [["a", "b"]]}, "Be brief. a b Say it."),
        ({"instruction": "Say it.", "input": "", "system": None, "history": None}, "Say it."),
    ],
)
def test_what_is_empty_in_alpaca_leaves_no_trace(row, prompt):
    assert Template(template(BY_KIND["Alpaca"], *row), "instruction").fill(row) == prompt


def test_a_prompt_of_several_columns_names_each():
    text = template(BY_KIND["SQuAD"], "question", "context")
    assert Template(text, "question").fill({"question": "Who?", "context": "Ann."}) == "question: Who? context: Ann."


def test_columns_are_read_as_the_table_spells_them():
    names = {"instruction": "Instruction", "context": "Context "}
    found = Template(BY_KIND["Dolly"].template(names), "Instruction")
    assert found.columns == ("Instruction", "Context ")
    assert found.fill({"Instruction": "a", "Context ": "b"}) == "a Context: b"


def test_a_question_with_choices_is_no_mere_question():
    assert BY_KIND["question and answer"].inputs_in({"question": "question", "choices": "choices"}) == []
