"""Dotted names lead into nested cells."""

import pytest
from datasets import Dataset

from job.data.fields import field, parsed, with_fields
from job.tables.table import Source, Table


def table(*rows: dict) -> Table:
    return Table(Source("TRAIN_DATA", "a.json"), Dataset.from_list(list(rows)))


@pytest.mark.parametrize(
    ("cell", "path", "found"),
    [
        ({"de": "ja"}, "de", "ja"), ({"a": {"b": 1}}, "a.b", "1"), ({"a": None}, "a.b", None), ("ja", "de", None),
        (None, "de", None), ({"text": ["x", "y"]}, "text", ["x", "y"]), ({"text": ["x", "y"]}, "text.1", "y"),
        ({"text": []}, "text.0", None),
        ([{"text": "x"}, {"text": "y"}, {}], "text", ["x", "y"]), ('{"a": [{"b": true}]}', "a.0.b", "true"), ("{x", "a", None),
    ],
)  # fmt: skip
def test_a_path_leads_through_keys_items_and_json_text(cell, path, found):
    assert field(cell, path.split(".")) == found


def test_a_field_becomes_a_column_of_its_own():
    rows = with_fields(
        table({"translation": {"en": "yes", "de": "ja"}}, {"translation": {"en": "no", "de": None}}), ["translation.de"]
    ).rows
    assert rows["translation.de"][:] == ["ja", None]
    assert rows["translation"][0] == {"en": "yes", "de": "ja"}


def test_a_column_whose_own_name_has_a_dot_is_that_column():
    assert with_fields(table({"a.b": "x", "a": {"b": "y"}}), ["a.b"]).rows["a.b"][:] == ["x"]


def test_a_field_that_no_row_has_is_no_column():
    found = with_fields(table({"a": {"b": "x"}, "c": "d"}), ["a.z", "c.z", "z.z", "a"])
    assert found.rows.column_names == ["a", "c"]


def test_only_lists_and_objects_are_parsed():
    assert [parsed(cell) for cell in ('["a"]', "[a", "7", "true", ' {"a": 1}')] == [["a"], "[a", "7", "true", {"a": 1}]
