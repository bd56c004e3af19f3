"""The page of the data: a person's texts are shown, not executed, and nothing in them turns the page around."""

import pytest

from job.publish.data_page import DataPage, ShownRow, Table, cleaned, visible, write_data_page
from job.publish.report import plot
from tests.publish.test_report import Tags

EVIL = "<script>alert(1)</script>"
PAGE = DataPage(
    title=f"run {EVIL}",
    subtitle=EVIL,
    warnings=(f'the first is "{EVIL}"',),
    facts=((f"training data {EVIL}", f"{EVIL}.csv"),),
    tables=(Table(f"Answers {EVIL}", ("", EVIL), ((EVIL, "3"),)),),
    rows=(ShownRow(f"row {EVIL}", (("reads", f"a{EVIL}\nb"), ("writes", "<img src=x onerror=alert(1)> {{ 7 * 7 }}"))),),
)


def test_a_persons_texts_are_shown_and_not_executed(tmp_path):
    write_data_page(tmp_path / "data.html", PAGE, [plot("<svg></svg>", EVIL)])
    text = (tmp_path / "data.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {"script", "img", "iframe", "link"} & set(tags.seen)
    assert tags.addresses == []
    assert text.count("&lt;script&gt;") == 13, "wherever it was"
    assert "{{ 7 * 7 }}" in text
    assert tags.seen.count("svg") == 1


def test_a_page_without_warnings_tables_and_rows_is_whole(tmp_path):
    write_data_page(tmp_path / "data.html", DataPage("r", "1 row", (), (), (), ()), [])
    tags = Tags()
    tags.feed((tmp_path / "data.html").read_text())
    assert tags.open == []
    assert (tags.seen.count("h1"), tags.seen.count("section")) == (1, 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\nb"),
        ("\t\r\x1b[31m\x00\x85", r"\t\r\x1b[31m\x00\x85"),
        ("\u202eab\u2066\u2028", r"\u202eab\u2066\u2028"),
        ("\ud800", r"\ud800"),
        ("می\u200cشود 👨\u200d👩 é", "می\u200cشود 👨\u200d👩 é"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(text, shown):
    assert visible(text) == shown


def test_every_text_of_a_page_is_cleaned():
    table, row = Table("\x1b", ("\x1b",), (("\x1b",),)), ShownRow("\x1b", (("\x1b", "\x1b"),))
    found = repr(cleaned(DataPage("\x1b", "\x1b", ("\x1b",), (("\x1b", "\x1b"),), (table,), (row,))))
    assert found.count(r"'\\x1b'") == 11
    assert "'\\x1b'" not in found, "repr of the control character itself"
