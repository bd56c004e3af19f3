"""A workbook comes back with further columns and every other byte of every part as it was; openpyxl reads what was put in."""

import re
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.chart import BarChart, Reference
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.table import Table

from job.errors import OutputError
from job.tables.added_columns import AddedColumns
from job.tables.sheet_edit import cell_text, edit_sheet, edit_workbook
from job.tables.xlsx_cells import cell_place

PART = "xl/worksheets/sheet1.xml"
ADDED = AddedColumns(("output", "confidence"), {2: ("=1+1", -0.25), 3: ("a & <b>\n ü🙂 ", -1.5), 4: (None, None)})


def rich_workbook() -> Path:
    book = Workbook()
    sheet = book.active
    for row in (["input", "when", "sum"], ["a", datetime(2026, 11, 26), "=1+2"], ["b", None, "=SUM(C2:C2)"], [None, 1, 2]):
        sheet.append(row)
    sheet["A1"].font = sheet["C1"].font = Font(bold=True)
    sheet["A2"].fill = PatternFill("solid", fgColor="FFFF00")
    sheet["C3"].number_format = "0.00%"
    sheet.column_dimensions["A"].width = 44.5
    sheet.row_dimensions[3].hidden = True
    sheet.auto_filter.ref = "A1:C4"
    sheet.freeze_panes = "A2"
    chart = BarChart()
    chart.add_data(Reference(sheet, min_col=3, min_row=1, max_row=3))
    sheet.add_chart(chart, "G2")
    sheet.add_table(Table(displayName="people", ref="A1:C4"))
    book.create_sheet("Other").append(["keep", "=me"])
    book.save("rich.xlsx")
    return Path("rich.xlsx")


def parts(path: str | Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sheet_of(rows: str, before: str = "", after: str = "") -> bytes:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{space}">{before}<sheetData>{rows}</sheetData>{after}</worksheet>'.encode()


def edited(rows: str, added: AddedColumns = ADDED, header: int = 1, **around: str) -> str:
    """The XML of a sheet of these rows, with what of `added` belongs to them."""
    numbers = {int(number) for number in re.findall(r'<row r="(\d+)"', rows)} or set(range(1, 1 + rows.count("<row>")))
    there = AddedColumns(added.names, {number: cells for number, cells in added.rows.items() if number in numbers})
    return edit_sheet(sheet_of(rows, **around), header, there).decode()


def test_every_part_but_the_sheet_stays_byte_for_byte_and_the_sheet_only_gains_cells():
    edit_workbook(rich_workbook(), Path("back.xlsx"), PART, 1, ADDED)
    before, after = parts("rich.xlsx"), parts("back.xlsx")
    assert list(after) == list(before)
    assert {name for name in before if before[name] != after[name]} == {PART}
    assert any("chart" in name for name in after)
    without = re.sub(rb'<c r="[DE]\d"[^>]*?(/>|>.*?</c>)', b"", after[PART], flags=re.DOTALL)
    assert without.replace(b'ref="A1:E4"', b'ref="A1:C4"') == re.sub(rb' spans="[^"]*"', b"", before[PART])


def test_openpyxl_reads_the_new_cells_texts_as_texts_and_the_formulas_are_formulas():
    edit_workbook(rich_workbook(), Path("back.xlsx"), PART, 1, ADDED)
    sheet = load_workbook("back.xlsx").worksheets[0]
    assert [[cell.value for cell in row] for row in sheet.iter_rows(min_col=3)] == [
        ["sum", "output", "confidence"],
        ["=1+2", "=1+1", -0.25],
        ["=SUM(C2:C2)", "a & <b>\n ü🙂 ", -1.5],
        [2, None, None],
    ]
    assert [cell.data_type for cell in sheet[2]] == ["s", "d", "f", "s", "n"]
    assert sheet["D1"].font.bold
    assert sheet["D2"].fill.fgColor.rgb != "00FFFF00"
    assert (sheet.column_dimensions["A"].width, sheet.row_dimensions[3].hidden) == (44.5, True)


def test_cells_without_content_do_not_push_the_new_column_away_and_keep_their_format():
    made = edited(
        '<row r="1"><c r="A1" t="str"><v>x</v></c></row>'
        '<row r="2"><c r="A2"><v>1</v></c><c r="B2" s="7"/><c r="Z2" s="3"/></row>'
        '<row r="3"><c r="A3"><v>1</v></c><c r="Z3" s="3"/></row>'
    )
    assert '<c r="A2"><v>1</v></c><c r="B2" s="7" t="inlineStr">' in made
    assert '<c r="C2"><v>-0.25</v></c><c r="Z2" s="3"/>' in made
    assert '<c r="C3"><v>-1.5</v></c><c r="Z3" s="3"/></row>' in made


def test_rows_and_cells_that_do_not_say_where_they_are_follow_one_another():
    made = edited("<row><c><v>1</v></c><c><v>2</v></c></row><row><c><v>3</v></c></row><row><c><v>4</v></c><c/></row>")
    assert re.findall(r'<c r="([A-Z]+\d+)"', made) == ["C1", "D1", "C2", "D2", "C3", "D3"]


def test_a_prefix_of_the_namespace_is_that_of_the_new_cells():
    xml = b'<x:worksheet xmlns:x="u"><x:sheetData><x:row r="1"><x:c r="A1"><x:v>1</x:v></x:c></x:row></x:sheetData></x:worksheet>'
    made = edit_sheet(xml, 1, AddedColumns(("output",), {}))
    assert b'<x:c r="B1" t="inlineStr"><x:is><x:t xml:space="preserve">output</x:t></x:is></x:c></x:row>' in made


def test_a_row_of_another_part_of_the_sheet_is_not_one_of_its_rows():
    made = edited('<row r="1"><c r="A1"><v>1</v></c></row>', after="<controls><row>2</row><c><v>9</v></c></controls>")
    assert made.endswith("<controls><row>2</row><c><v>9</v></c></controls></worksheet>")


def test_what_the_sheet_says_of_its_size_takes_the_new_columns_in():
    assert '<dimension ref="A1:C1"/>' in edited('<row r="1"><c r="A1"><v>1</v></c></row>', before='<dimension ref="A1"/>')


def test_a_title_above_and_cells_merged_below_are_respected():
    rows = '<row r="1"><c r="A1"><v>9</v></c></row><row r="3"><c r="A3"><v>1</v></c></row>'
    merged = '<mergeCells><mergeCell ref="A1:H1"/><mergeCell ref="A3:B3"/></mergeCells>'
    made = edited(rows, AddedColumns(("output",), {}), header=3, after=merged)
    assert '<c r="C3" t="inlineStr">' in made


@pytest.mark.parametrize(
    ("hidden", "left"),
    [
        ('<col min="2" max="16384" hidden="1"/>', ['<col min="4" max="16384" hidden="1"/>']),
        ('<col min="1" max="2" hidden="1"/>', ['<col min="1" max="1" hidden="1"/>']),
        ('<col min="2" max="3" hidden="1"/>', []),
        ('<col min="5" max="9" hidden="1"/>', ['<col min="5" max="9" hidden="1"/>']),
        ('<col min="2" max="3" width="9"/>', ['<col min="2" max="3" width="9"/>']),
    ],
)
def test_the_new_columns_are_not_hidden(hidden, left):
    made = edited('<row r="1"><c r="A1"><v>1</v></c></row>', before=f"<cols>{hidden}</cols>")
    assert re.findall("<col [^>]*>", made) == left


def test_a_sheet_in_utf_16_is_read_too():
    rows = '<row r="1"><c r="A1" t="str"><v>ü</v></c></row>'
    xml = '<?xml version="1.0" encoding="UTF-16"?>' + sheet_of(rows).decode()
    made = edit_sheet(xml.encode("utf-16"), 1, AddedColumns(("output",), {})).decode()
    assert 'encoding="UTF-8"' in made
    assert "<v>ü</v></c><c" in made


def test_a_sheet_whose_last_column_is_used_is_told():
    with pytest.raises(OutputError, match="the sheet has no free column: its last one, XFD, is used"):
        edited('<row r="1"><c r="XFD1"><v>1</v></c></row>')


def test_a_cell_takes_32767_units_and_no_control_characters():
    assert cell_text("x" * 40_000) == "x" * 32_767
    assert cell_text("🙂" * 20_000) == "🙂" * 16_383
    assert cell_text("a\x00\x07b\r\nc\rd\ufffe") == "ab\nc\nd"


def test_what_a_cell_cannot_hold_is_told():
    edit = edit_workbook(rich_workbook(), Path("back.xlsx"), PART, 1, AddedColumns(("output",), {2: ("bell\x07",), 3: ("fine",)}))
    assert edit == ("1 cells lost control characters or what is beyond 32767 letters; csv keeps all",)


def test_text_that_looks_like_an_escape_of_excel_is_escaped():
    assert "_x005F_x0041_ and _x00" in edited(
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="2"><c r="A2"><v>1</v></c></row>',
        AddedColumns(("output",), {2: ("_x0041_ and _x00",)}),
    )


def test_columns_have_letters():
    names = {1: "A", 26: "Z", 27: "AA", 702: "ZZ", 703: "AAA", 16_384: "XFD"}
    assert {number: get_column_letter(number) for number in names} == names
    assert [cell_place(f"${name}$7") for name in names.values()] == [(7, number - 1) for number in names]


VALUES = st.none() | st.booleans() | st.integers(-(10**14), 10**14) | st.floats(allow_nan=False, allow_infinity=False, width=32)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=6).map(
    lambda text: text.replace("_x", "x")
)
ROWS = st.lists(st.lists(VALUES | TEXTS | st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)), max_size=4), max_size=6)


@given(ROWS, st.lists(TEXTS, min_size=7, max_size=7), st.booleans())
def test_every_other_cell_comes_back_equal_and_the_answers_are_where_they_belong(rows, answers, streamed):
    book = Workbook(write_only=streamed)
    sheet = book.create_sheet("rows") if streamed else book.active
    for row in [["input", "b"], *rows]:
        sheet.append(row)
    book.save("a.xlsx")
    added = AddedColumns(("output",), {number: (answers[number - 2],) for number, row in enumerate(rows, 2) if any(row)})
    edit_workbook(Path("a.xlsx"), Path("b.xlsx"), PART, 1, added)
    before, after = load_workbook("a.xlsx").worksheets[0], load_workbook("b.xlsx").worksheets[0]
    place = next(cell.column for cell in after[1] if cell.value == "output")
    assert [described(row[: place - 1]) for row in after.iter_rows()] == [
        described(row) for row in before.iter_rows(max_col=place - 1)
    ]
    assert [after.cell(number, place).value or "" for number in added.rows] == [cells[0] for cells in added.rows.values()]


def described(row: tuple) -> list[tuple]:
    return [(cell.value, cell.data_type, cell.number_format) for cell in row]
