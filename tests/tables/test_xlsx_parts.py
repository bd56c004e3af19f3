"""What an .xlsx file says beside its cells."""

import pytest

from job.tables.xlsx_parts import XlsxParts, unescape
from tests.tables.made_workbooks import strict, workbook, xlsx


def test_sheets_come_in_the_order_of_their_tabs_with_those_that_are_hidden():
    from openpyxl import load_workbook

    book = load_workbook(workbook("a.xlsx", first=[("a",)], second=[("b",)], third=[("c",)]))
    book["first"].sheet_state, book["second"].sheet_state = "hidden", "veryHidden"
    book.create_chartsheet("chart", 0)
    book.save("a.xlsx")
    with (parts := XlsxParts("a.xlsx")).archive:
        assert [(entry.name, entry.hidden) for entry in parts.sheets()] == [("first", True), ("second", True), ("third", False)]


def test_strict_files_and_backslashes_are_read_as_usual_ones():
    with (parts := XlsxParts(strict(workbook("a.xlsx", one=[("a",)]), "b.xlsx"))).archive:
        (entry,) = parts.sheets()
        assert entry.name == "one"
        assert [element.get("r") for element in parts.elements(entry.part, "c")] == ["A1"]


def test_a_file_without_styles_and_shared_texts_has_none():
    with (parts := XlsxParts(xlsx(""))).archive:
        assert (parts.formats, parts.shared_texts, parts.from_1904, parts.to_be_computed) == ([], [], False, False)


def test_styles_name_their_formats_by_number_or_in_full():
    own = '<numFmts><numFmt numFmtId="170" formatCode="0.0%"/></numFmts>'
    styles = own + "<cellXfs>" + "".join(f'<xf numFmtId="{number}"/>' for number in (0, 14, 170, 9, 31, 999)) + "</cellXfs>"
    with (parts := XlsxParts(xlsx("", styles=styles))).archive:
        assert parts.formats == ["General", "mm-dd-yy", "0.0%", "0%", "yyyy-m-d", "General"]


def test_a_shared_text_is_all_its_runs_without_readings():
    shared = "<si><t>a</t></si><si><r><t>b </t></r><r><rPr/><t>c</t></r><rPh><t>reading</t></rPh></si><si/>"
    with (parts := XlsxParts(xlsx("", shared=shared))).archive:
        assert parts.shared_texts == ["a", "b c", ""]


def test_what_the_workbook_says_of_days_and_formulas():
    path = xlsx("", workbook='<workbookPr date1904="1"/>', end='<calcPr fullCalcOnLoad="1"/>')
    with (parts := XlsxParts(path)).archive:
        assert (parts.from_1904, parts.to_be_computed) == (True, True)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("a_x000D_\nb", "a\nb"), ("a_x000D_b", "a\nb"), ("_x005F_x000D_", "_x000D_"), ("snake_xcase_", "snake_xcase_"),
        ("_xD83D__xDE00_", "😀"), ("_xD83D_", "\ufffd"), ("a\r\nb\rc\nd", "a\nb\nc\nd"), ("_x0041_", "A"),
    ],
)  # fmt: skip
def test_letters_that_xml_cannot_hold_are_written_by_their_numbers(written, text):
    assert unescape(written) == text
