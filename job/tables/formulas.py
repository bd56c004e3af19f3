"""Texts in a csv that a spreadsheet program would compute, marked so that it shows them instead."""

import re

COMPUTED = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""What a formula begins with, also in wide East Asian letters.

Apostrophes before it count too, so that a mark can be told from a person's own.
"""
HARMLESS = re.compile(r"\s*(?:[+-][\d.,'\s€$£¥%]*(?:[eE][+-]?\d+)?|[=+\-@]+\s*)")
"""Numbers with a sign, and signs alone."""


def mark(text: str) -> str:
    """`text` with an apostrophe before it where a spreadsheet program would compute it; numbers with a sign stay numbers."""
    return f"'{text}" if COMPUTED.match(text) and not HARMLESS.fullmatch(text) else text


def unmark(text: str) -> str:
    """The text that `mark` was given."""
    return text[1:] if text.startswith("'") and mark(text[1:]) == text else text
