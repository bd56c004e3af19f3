"""A prompt template takes columns by name and nothing else."""

import pytest

from job.data.template import Template
from job.errors import SettingsError


def test_a_template_never_looks_into_objects():
    assert Template("{input.__class__}", "input").columns == ("input.__class__",)


def test_a_template_without_a_column_is_refused():
    with pytest.raises(SettingsError, match="names no column"):
        Template("Answer:", "input")


def test_input_is_the_input_column_whatever_its_name():
    template = Template("{instruction}: {input}", "question")
    assert template.columns == ("instruction", "question")
    assert template.fill({"instruction": "Say", "question": "hello"}) == "Say: hello"


def test_a_column_that_is_named_twice_is_filled_twice_and_listed_once():
    template = Template("{a} {b} {a}", "input")
    assert template.columns == ("a", "b")
    assert template.fill({"a": 1, "b": 2.5}) == "1 2.5 1"


def test_doubled_braces_stand_for_braces():
    assert Template('{{"q": "{input}"}}', "input").fill({"input": "x"}) == '{"q": "x"}'


def test_braces_in_a_cell_are_text():
    assert Template("<{input}>", "input").fill({"input": "{b} {{c}} {0}"}) == "<{b} {{c}} {0}>"


def test_column_names_may_have_spaces_and_any_letters():
    assert Template("{first name} {größe}", "input").fill({"first name": "A", "größe": 2}) == "A 2"


@pytest.mark.parametrize("text", ["{input", "input}", "{input}}", "{"])
def test_a_brace_without_its_other_half_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(SettingsError) as raised:
        Template(text, "input")
    assert str(raised.value).startswith(f'PROMPT_TEMPLATE="{text}": ')
    assert str(raised.value).endswith("Write {{ and }} for braces.")
