"""A name is found though spaces and case differ, unless two would fit."""

import pytest

from job.tables.column_names import find_name


@pytest.mark.parametrize("name", ["input", "Input", " input ", "\xa0INPUT", "\ufeffinput", "in\u200bput"])
def test_spaces_and_case_do_not_count(name):
    assert find_name(["other", name], "input") == name


def test_a_stretch_of_spaces_and_line_breaks_is_one_space():
    assert find_name(["Right\n answer"], "right answer") == "Right\n answer"


def test_the_name_itself_goes_before_others_and_of_two_others_none_is_taken():
    assert find_name(["Input", "input"], "input") == "input"
    assert find_name(["Input", "INPUT"], "input") is None
    assert find_name(["a"], "input") is None
