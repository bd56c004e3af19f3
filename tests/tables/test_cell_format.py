"""A number of a spreadsheet is the text that its formula bar shows."""

from datetime import datetime

import pytest

from job.tables.cell_format import moment_text, number_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"), (-1.0, "-1"), (-0.0, "0"), (1.5, "1.5"), (0.1 + 0.2, "0.3"), (1e20, "100000000000000000000"), (1e21, "1E+21"),
        (1e-7, "0.0000001"), (1.5e-10, "1.5E-10"), (4006381333931, "4006381333931"), (1234567.891, "1234567.891"),
    ],
)  # fmt: skip
def test_a_number_has_15_digits_and_no_noise(number, text):
    assert number_text(number) == text


@pytest.mark.parametrize(
    ("number", "number_format", "text"),
    [
        (0.12, "0%", "12%"), (0.125, "0%", "12.5%"), (0.07, "0.00%", "7%"), (1.1, "0%", "110%"),
        (7, "000", "007"), (1234, "00000", "01234"), (1.5, "000", "1.5"), (-7, "000", "-7"),
        (1234.5, "#,##0.00 [$€-407]", "1234.5"), (1234.5, '"$"#,##0.00', "1234.5"), (5, '0 "days"', "5"), (5, "0\\d", "5"),
        (5, "[Red]0.00", "5"), (0.5, "# ?/?", "0.5"), (7, "@", "7"), (3, 'General" h"', "3"), (1.23e30, "0.00E+00", "1.23E+30"),
    ],
)  # fmt: skip
def test_percent_and_leading_zeros_are_shown_and_other_formats_leave_the_number(number, number_format, text):
    assert number_text(number, number_format) == text


@pytest.mark.parametrize(
    ("number", "number_format", "text"),
    [
        (46082, "yyyy-mm-dd", "2026-03-01"), (46082, "dd.mm.yyyy", "2026-03-01"), (46082, "[$-407]d. mmmm yyyy", "2026-03-01"),
        (46082, "m/d/yy h:mm", "2026-03-01"), (46082.75, "m/d/yy h:mm", "2026-03-01 18:00:00"), (46082.75, "d/m/yy", "2026-03-01"),
        (46082, "mmm", "2026-03-01"), (0.75, "h:mm", "18:00:00"), (46082.75, "h:mm AM/PM", "18:00:00"), (0.5, "mm:ss", "12:00:00"),
        (1.5, "[h]:mm:ss", "36:00:00"), (-0.5, "[h]:mm", "-12:00:00"), (1 / 3, "h:mm:ss", "08:00:00"),
    ],
)  # fmt: skip
def test_dates_and_times_are_iso_with_the_parts_that_the_format_shows(number, number_format, text):
    assert number_text(number, number_format) == text


def test_the_days_of_1900_are_those_of_excel_which_has_a_29_february_there():
    shown = [number_text(day, "yyyy-mm-dd") for day in (1, 59, 61)]
    assert shown == ["1900-01-01", "1900-02-28", "1900-03-01"]


def test_days_may_be_counted_from_1904():
    assert number_text(44620, "yyyy-mm-dd", from_1904=True) == "2026-03-01"


@pytest.mark.parametrize("number", [-5, 0, 2_958_466, 1e300])
def test_a_number_that_is_no_day_stays_a_number(number):
    assert number_text(number, "yyyy-mm-dd") == number_text(number)


def test_a_moment_has_a_time_unless_it_is_midnight():
    assert moment_text(datetime(2026, 3, 1)) == "2026-03-01"
    assert moment_text(datetime(2026, 3, 1, 0, 0, 5)) == "2026-03-01 00:00:05"
