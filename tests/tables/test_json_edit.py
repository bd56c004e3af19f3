"""JSON comes back with a key more in each row, and not one other letter changed; the reader finds the same cells in it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.tables.added_columns import AddedColumns, NoPlaceError
from job.tables.json_edit import edit_json
from job.tables.json_rows import read_json


def edit(content: str | bytes, name: str = "a.json", rows: dict[int, tuple] | None = None, names: tuple = ("output",)) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    edit_json(Path(name), Path("back"), AddedColumns(names, {1: ("x",), 2: (None,)} if rows is None else rows))
    return Path("back").read_bytes().decode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1.0, "b": [1e5]}\n{"a": 2}\n', '{"a": 1.0, "b": [1e5], "output": "x"}\n{"a": 2, "output": null}\n'),
        ('{"a":1,"b":"}"}\r\n{"a":2 }', '{"a":1,"b":"}","output":"x"}\r\n{"a":2,"output":null }'),
        ('{ "a": "\\u00fc" }\n{}\n', '{ "a": "\\u00fc", "output": "x" }\n{"output": null}\n'),
    ],
)
def test_a_line_gets_a_key_at_its_end_and_keeps_numbers_order_and_spaces(content, expected):
    assert edit(content, "a.jsonl") == expected


def test_blank_lines_stay_and_rows_are_found_by_their_lines():
    assert edit('{"a": 1}\n\n{"a": 2}\n', "a.jsonl", {3: ("x",)}) == '{"a": 1}\n\n{"a": 2, "output": "x"}\n'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}, {"a": 2}]', '[{"a": 1, "output": "x"}, {"a": 2, "output": null}]'),
        (
            '[\n  {\n    "a": 1\n  },\n  {\n    "a": 2\n  }\n]\n',
            '[\n  {\n    "a": 1,\n    "output": "x"\n  },\n  {\n    "a": 2,\n    "output": null\n  }\n]\n',
        ),
        ('{"v": 1, "data": [{"a": 1}, {"a": 2}]}', '{"v": 1, "data": [{"a": 1, "output": "x"}, {"a": 2, "output": null}]}'),
        ('{"a": ["1", "2"], "b": [3, 4]}', '{"a": ["1", "2"], "b": [3, 4], "output": ["x", null]}'),
        ('{"a": {"0": "1", "1": "2"}}', '{"a": {"0": "1", "1": "2"}, "output": {"0": "x", "1": null}}'),
        ('[["a", "b"], ["1", "2"], ["3", "4"]]', '[["a", "b", "output"], ["1", "2", "x"], ["3", "4", null]]'),
        (
            '{"columns":["a","b"],"index":[0,1],"data":[["1",2],["3",4]]}',
            '{"columns":["a","b","output"],"index":[0,1],"data":[["1",2,"x"],["3",4,null]]}',
        ),
        ('{"k1": {"a": "1"}, "k2": {"a": "2"}}', '{"k1": {"a": "1", "output": "x"}, "k2": {"a": "2", "output": null}}'),
        ('{"train": [{"a": 1}], "dev": [{"a": 2}]}', '{"train": [{"a": 1, "output": "x"}], "dev": [{"a": 2, "output": null}]}'),
        ('{"a": 1}\n{"a": 2}\n', '{"a": 1, "output": "x"}\n{"a": 2, "output": null}\n'),
    ],
)
def test_each_layout_stays_what_it_is(content, expected):
    assert edit(content) == expected


def test_rows_that_come_out_of_one_object_have_no_place():
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "id": "1", "answers": []}] * 2}]}]}
    with pytest.raises(NoPlaceError):
        edit(json.dumps(squad))


def test_parts_of_columns_have_no_place_as_the_rows_of_both_are_counted_as_one():
    with pytest.raises(NoPlaceError):
        edit('{"train": {"a": ["1"]}, "test": {"a": ["2"]}}')


def test_several_keys_numbers_and_letters_beyond_ascii():
    made = edit('{"a": "ü"}\n', "a.jsonl", {1: ('say "ü"', -0.5)}, ("output", "confidence"))
    assert made == '{"a": "ü", "output": "say \\"ü\\"", "confidence": -0.5}\n'


def test_a_file_of_escapes_gets_escapes_and_an_encoding_of_one_country_too():
    assert edit('{"a": "\\u00fc"}\n', "a.jsonl", {1: ("ü",)}) == '{"a": "\\u00fc", "output": "\\u00fc"}\n'
    content = '{"a": "für die schöne Müllerin"}\n'.encode("cp1252")
    Path("a.jsonl").write_bytes(content)
    edit_json(Path("a.jsonl"), Path("back"), AddedColumns(("output",), {1: ("你",)}))
    assert Path("back").read_bytes() == content[:-2] + b', "output": "\\u4f60"}\n'


def test_the_byte_order_mark_stays():
    content = b'\xef\xbb\xbf{"a": 1}\r\n'
    Path("a.jsonl").write_bytes(content)
    edit_json(Path("a.jsonl"), Path("back"), AddedColumns(("output",), {1: ("x",)}))
    assert Path("back").read_bytes() == b'\xef\xbb\xbf{"a": 1, "output": "x"}\r\n'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.fixed_dictionaries({"input": st.text(min_size=1)}, optional={"b": VALUES, "}": VALUES}), min_size=1, max_size=5)


@given(ROWS, st.sampled_from([None, 1, "\t"]), st.booleans(), st.booleans(), st.text())
def test_every_other_value_comes_back_equal(rows, indent, ascii_only, by_line, answer):
    text = (
        "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
        if by_line
        else json.dumps(rows, ensure_ascii=ascii_only, indent=indent)
    )
    path = Path("a.jsonl" if by_line else "a.json")
    path.write_bytes(text.encode(errors="replace"))
    before = read_json("FILE", path)
    edit_json(path, Path("back"), AddedColumns(("output",), dict.fromkeys(before.numbers, (answer,))))
    made = Path("back").read_bytes().decode()
    own = path.read_bytes().decode()
    parsed = [json.loads(line) for line in made.split("\n") if line] if by_line else json.loads(made)
    expected = [json.loads(line) for line in own.split("\n") if line] if by_line else json.loads(own)
    assert parsed == [row | {"output": answer} for row in expected]
    for row in parsed:
        assert list(row)[-1] == "output"
