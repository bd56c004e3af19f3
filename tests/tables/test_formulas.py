"""What a spreadsheet program would compute is marked, numbers and harmless text are not, and each mark can be taken off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.tables.formulas import mark, unmark

COMPUTED = [
    "=1+1", '=HYPERLINK("http://x")', "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "- a list", "\t=1+1", "\r=1", " =1",
    "\uff1d1+1", "'=1", "-A1", "-5\n=1+1", "+1-800",
]  # fmt: skip
HARMLESS = [
    "-5", "+3.5", "-1,5", "-1e5", "-2.5E-3", "-12 %", "-5 000,00 €", "+49 89 1234", "-", "---", "=", "", "a=b", "1-2",
    "'quoted'", "x@y.z", "'",
]  # fmt: skip


@pytest.mark.parametrize("text", COMPUTED)
def test_what_would_be_computed_begins_with_an_apostrophe(text):
    assert mark(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_harmless_texts_stay_as_they_are(text):
    assert mark(text) == text


@given(st.text(alphabet="'=+-@1a \t\r", max_size=6) | st.text())
def test_a_mark_comes_off_again(text):
    assert unmark(mark(text)) == text
