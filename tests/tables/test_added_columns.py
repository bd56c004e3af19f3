"""What is added to one file."""

import pytest

from job.errors import OutputError
from job.tables.added_columns import AddedColumns, NoPlaceError


def test_a_row_without_a_place_is_a_matter_of_the_output():
    with pytest.raises(OutputError):
        raise NoPlaceError("none")
    assert AddedColumns(("output",), {2: ("x",)}).rows == {2: ("x",)}


def test_rows_that_a_file_does_not_have_are_told():
    added = AddedColumns(("output",), {2: ("x",), 7: ("y",), 9: ("z",)})
    added.check_places([1, 2, 7, 9])
    with pytest.raises(NoPlaceError, match="2 rows have no place in the file, such as row 7"):
        added.check_places(range(5))
