"""JSON is read cell by cell as it is written, and what is wrong in it is told with its line."""

import re
from pathlib import Path

import pytest

from job.errors import DataError
from job.tables.file_rows import FileRows
from job.tables.json_rows import read_json


def read(content: str | bytes, name: str = "a.jsonl") -> FileRows:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return read_json(f"TRAIN_DATA={name}", Path(name))


def test_numbers_stay_as_they_are_written():
    digits = "9" * 5000
    found = read(f'{{"a": 1.0, "b": {digits}}}\n{{"a": 1e5, "b": -0}}\n{{"a": 0.10, "b": 1e400}}\n')
    assert found.columns == {"a": ["1.0", "1e5", "0.10"], "b": [digits, "-0", "1e400"]}


def test_true_is_text_and_null_and_nan_are_empty():
    assert read('{"a": true, "b": null, "c": NaN, "d": Infinity}').columns == {
        "a": ["true"],
        "b": [None],
        "c": [None],
        "d": ["Infinity"],
    }


def test_values_inside_lists_and_objects_keep_their_types():
    found = read('{"a": {"n": 1, "x": 1.5, "yes": true, "no": null, "bad": NaN}}')
    assert found.columns == {"a": [{"n": 1, "x": 1.5, "yes": True, "no": None, "bad": None}]}


def test_a_number_inside_that_no_float_holds_stays_as_it_is_written():
    digits = "9" * 5000
    assert read(f'{{"a": [{digits}, 1e400]}}').columns == {"a": [[digits, "1e400"]]}


def test_what_a_record_lacks_is_empty():
    assert read('{"a": 1}\n{"b": "x"}\n').columns == {"a": ["1", None], "b": [None, "x"]}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize(
    "text", ['[{"a": "x"},\n {"a": "y"}]', '[{"a": "x"}, {"a": "y"}]', '{"a": "x"}\n{"a": "y"}\n', '{\n"a": "x"}\n{\n"a": "y"}']
)
def test_lists_and_lines_are_read_whatever_the_ending_is(name, text):
    assert read(text, name).columns == {"a": ["x", "y"]}


def test_rows_are_numbered_by_their_lines_and_those_of_a_list_are_counted():
    assert list(read('\n{"a": 1}\n\n{"a": 2}\n').numbers) == [2, 4]
    assert list(read('{\n"a": 1\n}\n{"a": 2}\n', "a.json").numbers) == [1, 4]
    assert list(read('[\n\n{"a": 1},\n{"a": 2}]', "a.json").numbers) == [1, 2]


@pytest.mark.parametrize("ends", ["\r\n", "\r", "\n"])
def test_every_kind_of_line_end_ends_a_line(ends):
    found = read(f'{{"a": 1}}{ends}{{"a": 2}}{ends}')
    assert (found.columns, list(found.numbers)) == ({"a": ["1", "2"]}, [1, 2])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_byte_order_mark_is_no_part_of_the_text(encoding):
    assert read('[{"a": "Grüße"}]'.encode(encoding), "a.json").columns == {"a": ["Grüße"]}


def test_an_empty_key_is_a_column():
    assert read('{"": 1, "a": 2}').columns == {"": ["1"], "a": ["2"]}


def test_a_single_line_of_a_jsonl_is_a_row_whatever_it_holds():
    assert read('{"rows": [{"a": 1}]}').columns == {"rows": [[{"a": 1}]]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '[\n{"a": 1},\n]', "line 3, character 1: invalid JSON (a comma before ]). Fix that line."),
        ("a.json", '[{"a": 1,}]', "line 1, character 10: invalid JSON (a comma before }). Fix that line."),
        ("a.json", '// x\n[{"a": 1}]', "line 1, character 1: invalid JSON (a comment; JSON has none)."),
        ("a.json", '[{"a": 1, /* x */ "b": 2}]', "invalid JSON (a comment; JSON has none)."),
        ("a.jsonl", '{"a": 1},\n{"a": 2}\n', "a comma behind the object: JSON lines have none, and a list stands in [ and ]). Fix"),
        ("a.json", "[{'a': 1}]", "invalid JSON (single quotes; JSON wants double ones)."),
        ("a.json", '[{"a": None}]', "invalid JSON (None is Python's; JSON writes null, true and false)."),
        ("a.jsonl", '{"a": "b\tc"}', "a tab or a line break in a text; JSON writes \\t and \\n"),
        ("a.jsonl", '{"a": 1}\n\n{"a": }\n', "line 3, character 7: invalid JSON (Expecting value). Fix that line."),
        ("a.jsonl", '{"a": 1, "a": 2}\n', 'line 1: an object has the key "a" twice. Rename one of them.'),
        ("a.jsonl", '{"b": 1}\n{"a": {"x": 1, "x": 2}}\n', 'line 2: an object has the key "x" twice. Rename one of them.'),
        ("a.jsonl", '{"a": 1}\nnull\n', "row 2 is null, and no object. Write each row as {"),
        ("a.jsonl", '{"a": 1}\n[2]\n', "row 2 is a list, and no object. Write each row as {"),
        ("a.json", '[{"a": 1}, 7]', 'row 2 is a text or a number, and no object. Write each row as {'),
        ("a.jsonl", '{"a": 1}\n{"a": "x\\ud800"}\n', "row 2: \\ud800 is one half of a character. Write the whole of it."),
        ("a.jsonl", '{"a\\udc00": 1}\n', "row 1: \\udc00 is one half of a character. Write the whole of it."),
        ("a.jsonl", '{"a": 1}\n{"a": ' + "[" * 900 + "]" * 900 + "}\n", "row 2: JSON nested more than 50 deep. Flatten it."),
        ("a.json", "[" * 100_000, "line 1: JSON nested too deeply. Flatten it."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line_with_its_place(name, text, said):
    with pytest.raises(DataError, match=rf"^TRAIN_DATA={name}: .*{re.escape(said)}"):
        read(text, name)


def test_a_whole_character_written_as_two_halves_is_one():
    assert read('{"a": "\\ud83d\\ude42"}').columns == {"a": ["🙂"]}
