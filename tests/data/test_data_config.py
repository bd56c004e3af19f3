"""Two preparations have the same fingerprint where the same rows would come of them, and no other."""

from dataclasses import replace

import pytest

from job.data.data_config import contents_of, fingerprint_of
from job.data.lengths import LengthLimits
from job.tables.read import read_table
from job.tables.table import Source

CONTENT = "ab" * 32


def content(path) -> list[str]:
    return contents_of((read_table(Source("TRAIN_DATA", str(path))), None))


def test_the_content_is_that_of_the_cells_whatever_file_they_are_in(write_rows, questions):
    first = content(write_rows(questions, "a.csv"))
    assert first == content(write_rows(questions, "b.jsonl"))
    assert len(first) == 1
    questions[7]["input"] += "!"
    assert first != content(write_rows(questions, "c.csv"))


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ({"seed": 1}, True),
        ({"too_long": "drop"}, True),
        ({"max_truncated_targets": 0.5}, True),
        ({"add_tokens": "auto"}, True),
        ({"num_proc": 7}, False),
        ({"max_unknown_targets": 1}, False),
        ({"train": Source("TRAIN_DATA", "elsewhere.csv")}, False),
    ],
)
def test_what_rows_depend_on_is_in_the_fingerprint_and_all_else_is_not(request_, reader, change, is_other):
    before = fingerprint_of(request_, reader, [CONTENT])
    assert (fingerprint_of(replace(request_, **change), reader, [CONTENT]) != before) is is_other


def test_other_cells_another_kind_of_model_and_other_limits_are_another_fingerprint(request_, reader):
    made = {
        fingerprint_of(request_, reader, [CONTENT]),
        fingerprint_of(request_, reader, [CONTENT, CONTENT]),
        fingerprint_of(request_, replace(reader, seq2seq=False), [CONTENT]),
        fingerprint_of(request_, replace(reader, limits=LengthLimits(256, None, shared=False)), [CONTENT]),
    }
    assert len(made) == 4
    same = replace(reader, limits=replace(reader.limits, hard_target=reader.limits.hard))
    assert fingerprint_of(request_, same, [CONTENT]) in made


def test_the_file_of_preprocess_is_the_name_before_the_function(request_):
    assert request_.preprocess_file is None
    columns = replace(request_.columns, preprocess="own:code/mine.py:clean")
    assert str(replace(request_, columns=columns).preprocess_file) == "own:code/mine.py"
