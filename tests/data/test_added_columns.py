"""What is added to one file."""

import pytest

from job.data.added_columns import AddedColumns, NoPlaceError
from job.errors import OutputError


def test_a_row_without_a_place_is_a_matter_of_the_output():
    with pytest.raises(OutputError):
        raise NoPlaceError("none")
    assert AddedColumns(("output",), {2: ("x",)}).rows == {2: ("x",)}
