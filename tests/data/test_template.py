"""A prompt template takes columns by name and nothing else; Jinja where parts of it depend on the row."""

import pytest

from job.data.template import Template
from job.errors import SettingsError


def filled(text: str, **row: object) -> str:
    return Template(text, "input").fill(row)


def test_a_template_never_looks_into_objects():
    assert Template("{input.__class__}", "input").columns == ("input.__class__",)


def test_a_template_without_a_column_is_refused():
    with pytest.raises(SettingsError, match="names no column"):
        Template("Answer:", "input")
    with pytest.raises(SettingsError, match="names no column"):
        Template("{% if true %}Answer:{% endif %}", "input")


def test_input_is_the_input_column_whatever_its_name():
    template = Template("{instruction}: {input}", "question")
    assert template.columns == ("instruction", "question")
    assert template.fill({"instruction": "Say", "question": "hello"}) == "Say: hello"


def test_a_column_that_is_named_twice_is_filled_twice_and_listed_once():
    template = Template("{a} {b} {a}", "input")
    assert template.columns == ("a", "b")
    assert template.fill({"a": 1, "b": 2.5}) == "1 2.5 1"


def test_doubled_braces_stand_for_braces():
    assert filled('{{"q": "{input}"}}', input="x") == '{"q": "x"}'
    assert filled("{{year {input}}}", input="x") == "{year x}"
    assert filled("{{name}} {input}", input="x") == "{name} x"


def test_braces_in_a_cell_are_text():
    assert filled("<{input}>", input="{b} {{c}} {0}") == "<{b} {{c}} {0}>"
    assert filled("<{{ input }}>", input="{b} {{ c }} {% if %} & <b>") == "<{b} {{ c }} {% if %} & <b>>"


def test_column_names_may_have_spaces_and_any_letters():
    assert Template("{first name} {größe}", "input").fill({"first name": "A", "größe": 2}) == "A 2"


def test_an_empty_cell_leaves_nothing_in_either_form():
    assert filled("{input}|{more}", input="x", more=None) == "x|"
    assert filled("{{ input }}|{{ more }}", input="x", more=None) == "x|"


@pytest.mark.parametrize("text", ["{input", "input}", "{input}}", "{"])
def test_a_brace_without_its_other_half_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(SettingsError) as raised:
        Template(text, "input")
    assert str(raised.value).startswith(f'PROMPT_TEMPLATE="{text}": ')
    assert str(raised.value).endswith("Write {{ and }} for braces.")


@pytest.mark.parametrize("text", ["{price:.2f}", "{price!r}", "{price:>8}"])
def test_formats_are_refused_in_one_line(text):
    with pytest.raises(
        SettingsError, match=r"\{price\} has a format, and cells are put in as they are: delete what follows the name"
    ):
        Template(text, "input")


def test_a_part_of_jinja_is_there_for_rows_that_have_the_cell():
    text = "{{ instruction }}{% if context %}\n\n{{ context }}{% endif %}\n"
    assert Template(text, "input").columns == ("instruction", "context")
    assert filled(text, instruction="Say", context="loud") == "Say\n\nloud\n"
    assert filled(text, instruction="Say", context=None) == "Say\n"


def test_jinja_takes_columns_by_their_own_names():
    assert Template("{{ question }}{{ input }}", "question").columns == ("question", "input")
    assert filled('{{ row["first name"] }} {{ a }}', **{"first name": "Ann", "a": "x"}) == "Ann x"
    assert Template('{{ row["first name"] }}', "input").columns == ("first name",)


def test_jinja_looks_into_nested_cells_and_joins_lists():
    assert filled("{{ translation.de }}", translation={"de": "ja"}) == "ja"
    assert filled("{% for word in words %}{{ word }},{% endfor %}", words=["a", "b"]) == "a,b,"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ a.b }}", "UndefinedError: 'str object' has no attribute 'b'"),
        ("{% if a.b %}x{% endif %}", "UndefinedError"),
        ("{{ a }}{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ a.__class__.__mro__ }}", "SecurityError: access to attribute '__class__' of 'str' object is unsafe. Fix it."),
        ("{{ a + 1 }}", "TypeError"),
    ],
)
def test_what_fails_in_jinja_is_one_line_and_never_an_empty_text(text, said):
    with pytest.raises(SettingsError, match=f"^PROMPT_TEMPLATE: .*{said}"):
        filled(text, a="x")


@pytest.mark.parametrize("text", ["{% if a", "{{ a | nofilter }}", "{{ }}", "{% endif %}"])
def test_jinja_that_is_none_is_refused(text):
    with pytest.raises(SettingsError, match=r'^PROMPT_TEMPLATE=".*See docs/data\.md\.$'):
        Template(text, "input")


def test_the_simple_form_inside_jinja_is_refused_instead_of_staying_as_it_is():
    with pytest.raises(SettingsError, match=r"\{input\} beside Jinja stays as it is\. Write \{\{ input \}\} for that column\."):
        Template("{% if context %}{{ context }}{% endif %}{input}", "input")
    template = Template("{% if context %}{context}{% endif %} {not a column}", "input")
    template.check_names(["other"])
    with pytest.raises(SettingsError, match=r"\{context\} beside Jinja"):
        template.check_names(["context"])


def test_input_that_may_be_two_columns_is_refused():
    template = Template("Say {input}", "question")
    template.check_names(["question"])
    with pytest.raises(SettingsError, match=r'\{input\} may be the column "input" or INPUT_COLUMN=question'):
        template.check_names(["question", "input"])
    Template("Say {input}", "input").check_names(["question", "input"])
