"""Numbers of a spreadsheet as text: what the formula bar shows, dates and times as ISO 8601 writes them."""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

LAST_DAY = 2_958_466  # the day after 9999-12-31, counted from 1900
EPOCHS = {False: datetime(1899, 12, 30), True: datetime(1904, 1, 1)}
"""Day 0 of a workbook that counts from 1900, and from 1904."""


def number_text(number: float, number_format: str = "General", from_1904: bool = False) -> str:
    """A cell's number as text: 1 for 1.0, 0.3 for 0.1 + 0.2, 12% for 0.12 in percent, 007 for 7 as "000"; dates as ISO 8601.

    Decimals, thousands separators and currencies of a format leave the number as it is.
    """
    kind = _kind(number_format)
    if kind in ("date", "time", "date and time", "elapsed") and (moment := _moment_text(number, kind, from_1904)):
        return moment
    if kind == "percent":
        return f"{_digits(number * 100)}%"
    if kind == "zeros" and number == int(number) >= 0:
        return _digits(number).zfill(len(number_format))
    return _digits(number)


def _digits(number: float) -> str:
    """15 significant digits, as spreadsheet programs have them, without an exponent where they show none."""
    text = f"{number:.15g}"
    if "e" in text and 1e-9 <= abs(number) < 1e21:
        return f"{Decimal(text):f}"
    return "0" if text == "-0" else text.upper()


@cache
def _kind(number_format: str) -> str:
    """What a number format shows: "date", "time", "date and time", "elapsed", "percent", "zeros" or "number"."""
    first = re.sub(r'"[^"]*"|\\.|_.|\*.', "", number_format.partition(";")[0])  # texts, and letters that stand for themselves
    if re.search(r"\[(h+|m+|s+)\]", first, re.IGNORECASE):
        return "elapsed"
    shown = re.sub(r"\[[^\]]*\]|general", "", first.lower())  # colours, conditions, currencies, languages
    time = re.search(r"[hs]", shown)
    if re.search(r"[dy]", shown) or ("m" in shown and not time):
        return "date and time" if time else "date"
    if time:
        return "time"
    if "%" in shown:
        return "percent"
    return "zeros" if re.fullmatch("00+", number_format) else "number"


def _moment_text(number: float, kind: str, from_1904: bool) -> str | None:
    """A date, a time, or both; None for a number that is no moment, which spreadsheet programs show as ####."""
    if kind == "elapsed":
        minutes, seconds = divmod(round(abs(number) * 86_400), 60)
        return f"{'-' if number < 0 else ''}{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    if not (0 if kind == "time" else 1) <= number < LAST_DAY:
        return None
    if not from_1904 and number < 60:
        number += 1  # to them 1900 has a 29 February, day 60
    moment = EPOCHS[from_1904] + timedelta(seconds=round(number * 86_400))
    if kind == "time":
        return moment.time().isoformat()
    return moment_text(moment.replace(hour=0, minute=0, second=0) if kind == "date" else moment)


def moment_text(moment: datetime) -> str:
    """2026-11-26, and the time behind it where it is not midnight."""
    return moment.isoformat(" ") if moment.time() != datetime.min.time() else moment.date().isoformat()
