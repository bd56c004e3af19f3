"""Which columns are inputs and answers is recognised by their names, said, and asked about where two ways fit."""

from dataclasses import replace

import pytest

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.shapes import Shape, has_field, recognise
from job.errors import DataError
from job.tables.read import in_memory
from job.tables.table import Source, Table

ALL_AUTO = ColumnMapping(AUTO, AUTO, AUTO, AUTO)
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def table(**row: object) -> Table:
    rows, kept_as_json = in_memory({name: [cell, cell] for name, cell in row.items()})
    return Table(Source("TRAIN_DATA", "a.jsonl"), rows, kept_as_json=kept_as_json)


def named(*names: str) -> Table:
    return table(**dict.fromkeys(names, "x"))


def shape(found: Table, **asked: object) -> Shape:
    return recognise(found, replace(ALL_AUTO, **asked))


def pair(found: Shape) -> tuple[str, str]:
    return found.columns.input, found.columns.target


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("input", "output_ground_truth"), ("input", "output_ground_truth")), (("question", "answer"), ("question", "answer")),
        (("text", "label", "id"), ("text", "label")), (("dialogue", "summary", "id"), ("dialogue", "summary")),
        (("document", "summary"), ("document", "summary")), (("article", "highlights", "id"), ("article", "highlights")),
        (("prompt", "completion"), ("prompt", "completion")), (("source", "target"), ("source", "target")),
        (("instruction", "response"), ("instruction", "response")), (("input", "output"), ("input", "output")),
        (("text", "code", "test_list"), ("text", "code")), (("instruction", "input", "output"), ("instruction", "output")),
        (("premise", "hypothesis", "label"), ("premise", "label")), (("sentence1", "sentence2", "label"), ("sentence1", "label")),
        (("Question ", "ANSWER"), ("Question ", "ANSWER")),
        (("Input", "Output\u00a0Ground-Truth "), ("Input", "Output\u00a0Ground-Truth ")),
    ],
)  # fmt: skip
def test_the_usual_pairs_of_names_are_recognised(names, expected):
    assert pair(shape(named(*names))) == expected


def test_the_names_of_the_job_are_meant_whatever_else_is_there():
    found = shape(table(input="a", output_ground_truth="b", question="c", answer="d", messages=CHAT))
    assert pair(found) == ("input", "output_ground_truth")
    assert found.unused == ("question", "answer", "messages")


def test_one_line_says_what_was_recognised_and_what_nobody_reads():
    assert shape(named("id", "dialogue", "summary")).describe() == (
        'dialogue and summary: inputs from "dialogue", right answers from "summary"; not used: "id"'
    )
    assert shape(named("instruction", "output")).describe().endswith("; every column is used")
    assert shape(table(id="1", messages=CHAT, tools=[])).describe() == 'chats, from "messages", "tools"; not used: "id"'


def test_of_many_columns_that_nobody_reads_a_dozen_are_named():
    found = shape(named("question", "answer", *(f"c{number}" for number in range(20)))).describe()
    assert found.endswith('"c10", "c11" and 8 more')


def test_squad_takes_context_and_question_to_the_text_of_the_answers():
    found = shape(table(id="7", question="Who?", context="Ann.", answers={"text": ["Ann"], "answer_start": [0]}))
    assert pair(found) == ("question", "answers.text")
    assert found.used == ("question", "context", "answers")


def test_two_pairs_are_asked_about_and_the_person_decides():
    both = named("question", "answer", "text", "label")
    with pytest.raises(DataError) as raised:
        shape(both)
    assert str(raised.value) == (
        "TRAIN_DATA=a.jsonl: the columns can be read in 2 ways: INPUT_COLUMN=question with TARGET_COLUMN=answer, or "
        "INPUT_COLUMN=text with TARGET_COLUMN=label. Set what you mean."
    )
    assert pair(shape(both, input="text")) == ("text", "label")
    assert pair(shape(both, target="answer", input="text")) == ("text", "answer")
    assert pair(shape(named("question", "answer", "response"), target="response")) == ("question", "response")


def test_a_chat_beside_a_pair_is_asked_about_and_the_person_decides():
    both = table(prompt="a", response="b", messages=CHAT)
    with pytest.raises(DataError, match="INPUT_COLUMN=prompt with TARGET_COLUMN=response, or MESSAGES_COLUMN=messages"):
        shape(both)
    assert shape(both, messages="messages").is_chat
    assert pair(shape(both, input="prompt")) == ("prompt", "response")


def test_a_chat_beside_an_input_without_an_answer_is_the_chat():
    found = shape(table(input="a", messages=CHAT))
    assert (found.is_chat, found.columns.messages, found.unused) == (True, "messages", ("input",))


def test_sharegpts_column_is_found():
    found = shape(table(conversations=[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]))
    assert (found.kind, found.columns.messages) == ("ShareGPT", "conversations")


def test_a_count_of_messages_is_no_chat():
    assert pair(shape(named("text", "label", "messages"))) == ("text", "label")


def test_translations_need_to_know_which_language_is_the_input():
    found = table(translation={"en": "yes", "de": "ja"})
    with pytest.raises(
        DataError, match=r"Set INPUT_COLUMN=translation\.en and TARGET_COLUMN=translation\.de, or the other way round"
    ):
        shape(found)
    assert pair(shape(found, languages=("de_DE", "en_XX"))) == ("translation.de", "translation.en")
    assert pair(shape(found, languages=("eng_Latn", "deu_Latn"))) == ("translation.en", "translation.de")
    assert pair(shape(found, input="translation.de", target="translation.en")) == ("translation.de", "translation.en")


def test_the_template_of_a_shape_gives_way_to_the_persons():
    alpaca = named("instruction", "input", "output")
    assert "{% if input %}" in shape(alpaca).columns.template
    assert shape(alpaca, template="{instruction}!").columns.template == "{instruction}!"


def test_input_in_a_template_is_the_column_that_is_called_so():
    found = shape(named("instruction", "input", "output"), template="{instruction}: {input}")
    assert pair(found) == ("input", "output")


def test_a_template_may_name_the_inputs_of_a_table_of_no_shape():
    found = shape(named("city", "street", "label"), template="{city}, {street}")
    assert (pair(found), found.unused) == (("city", "label"), ())


def test_nothing_usual_is_told_with_the_columns_and_what_to_set():
    with pytest.raises(
        DataError, match=r'no usual pair of input and right answer; found "a", "b"\. Set INPUT_COLUMN and TARGET_COLUMN\.'
    ):
        shape(named("a", "b"))
    with pytest.raises(DataError, match=r'found "a", "b"\. Set TARGET_COLUMN\.'):
        shape(named("a", "b"), input="a")
    with pytest.raises(DataError, match=r'no column "c"; found "a", "b"\. Set INPUT_COLUMN to one of them\.'):
        shape(named("a", "b"), input="c")


def test_plain_text_is_told_apart():
    for found in (named("text"), named("text", "url", "timestamp")):
        with pytest.raises(
            DataError, match=r"there are texts and no right answers to them; found .*Make it a table of two columns"
        ):
            shape(found)


def test_what_was_recognised_is_recognised_again_as_the_same():
    for found in (
        table(translation={"en": "a", "de": "b"}),
        named("instruction", "input", "output"),
        table(messages=CHAT, input="a"),
    ):
        first = shape(found, languages=("en", "de"))
        again = recognise(found, first.columns)
        assert (again.columns, again.is_chat) == (first.columns, first.is_chat)


def test_a_field_is_there_if_one_of_the_first_rows_has_it():
    found = table(a={"b": "x"}, c="y")
    assert [has_field(found, name) for name in ("a", "a.b", "a.z", "c", "c.b", "z")] == [True, True, False, True, False, False]
