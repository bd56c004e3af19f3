"""The cells of an .xlsx sheet are read where they stand, each as its text."""

from pathlib import Path

import pytest

from job.tables.sheet import NOT_COMPUTED, NoValue, Sheet
from job.tables.workbook import read_workbook
from job.tables.xlsx_cells import open_xlsx
from tests.tables.made_workbooks import xlsx


def read(path: Path) -> Sheet:
    with open_xlsx(path) as (sheet,):
        sheet.rows = iter(list(sheet.rows))
        return sheet


def cell(xml: str, **parts: str) -> str | None:
    """The text of one cell of a sheet that holds it alone."""
    rows = list(read(xlsx(f"<row>{xml}</row>", **parts)).rows)
    return rows[0].cells[0] if rows else None


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ('<c t="inlineStr"><is><t>a</t></is></c>', "a"),
        ('<c t="inlineStr"><is><r><t>a</t></r><r><t xml:space="preserve"> b</t></r><rPh><t>x</t></rPh></is></c>', "a b"),
        ('<c t="inlineStr"/>', None),
        ('<c t="s"><v>1</v></c>', "second"),
        ('<c t="str"><v>text_x000D_\n</v></c>', "text\n"),
        ('<c t="b"><v>1</v></c>', "TRUE"), ('<c t="b"><v>0</v></c>', "FALSE"),
        ('<c t="d"><v>2026-03-01T00:00:00</v></c>', "2026-03-01"),
        ('<c t="d"><v>2026-03-01T14:30:00</v></c>', "2026-03-01 14:30:00"),
        ('<c t="d"><v>2026-03-01T14:30:00.400Z</v></c>', "2026-03-01 14:30:00"),
        ("<c><v>1.0</v></c>", "1"), ('<c t="n"><v>0.30000000000000004</v></c>', "0.3"), ('<c s="1"><v>46082</v></c>', "2026-03-01"),
        ("<c><v>123456789012345678901</v></c>", "123456789012345678901"), ("<c><v>1e999</v></c>", "1e999"),
        ("<c><v>none</v></c>", "none"), ('<c s="9"><v>1</v></c>', "1"), ("<c/>", None), ("<c><v/></c>", None),
        ("<c><f>1+1</f><v>2</v></c>", "2"), ('<c t="str"><f>""</f><v></v></c>', None), ("<c><f>A2</f><v>0</v></c>", "0"),
    ],
)  # fmt: skip
def test_a_cell_of_each_kind_is_text(xml, text):
    parts = {"shared": "<si><t>first</t></si><si><t>second</t></si>"}
    assert cell(xml, styles='<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>', **parts) == text


def test_an_error_is_no_value():
    found = cell('<c t="e"><v>#REF!</v></c>')
    assert isinstance(found, NoValue)
    assert found == "#REF!"


def test_a_formula_without_a_value_was_never_computed():
    assert cell("<c><f>A1</f></c>") is NOT_COMPUTED
    assert cell("<c><f>A1</f><v/></c>") is NOT_COMPUTED
    assert cell("<c><f>A1</f><v>0</v></c>", end='<calcPr fullCalcOnLoad="1"/>') is NOT_COMPUTED, "as XlsxWriter writes it"
    assert cell("<c><v>0</v></c>", end='<calcPr fullCalcOnLoad="1"/>') == "0"


def test_rows_and_cells_stand_where_they_say_and_else_behind_each_other():
    xml = '<row r="3"><c r="B3"><v>1</v></c><c><v>2</v></c></row><row><c><v>3</v></c><c r="AA4"><v>4</v></c></row><row r="9"/>'
    assert [(row.number, row.cells) for row in read(xlsx(xml)).rows] == [(3, {1: "1", 2: "2"}), (4, {0: "3", 26: "4"})]


@pytest.mark.parametrize("dimension", ["", '<dimension ref="A1"/>', '<dimension ref="A1:XFD1048576"/>'])
def test_the_size_that_a_sheet_tells_of_itself_changes_nothing(dimension):
    sheet = read(
        xlsx('<row r="1"><c r="C1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>', before=dimension)
    )
    assert [(row.number, row.cells) for row in sheet.rows] == [(1, {2: "1"}), (1_048_576, {16_383: "2"})]


def test_what_is_hidden_merged_and_filtered_is_known():
    xml = '<row r="1"><c><v>1</v></c></row><row r="2" hidden="1"><c><v>2</v></c></row><row r="3" hidden="0"><c><v>3</v></c></row>'
    sheet = read(xlsx(xml, after='<autoFilter ref="$A$1:B9"/><mergeCells><mergeCell ref="A2:B3"/></mergeCells>'))
    assert [row.hidden for row in sheet.rows] == [False, True, False]
    assert (sheet.header, sheet.merged) == (1, [(2, 0, 3, 1)])


def test_a_table_on_a_sheet_tells_where_its_header_is():
    from openpyxl import Workbook
    from openpyxl.worksheet.table import Table

    book = Workbook()
    for row in [("Title",), (), ("a", "b"), (1, 2)]:
        book.active.append(row)
    book.active.add_table(Table(displayName="Data", ref="A3:B4"))
    book.save("a.xlsx")
    assert read(Path("a.xlsx")).header == 3


def test_the_row_of_totals_below_a_table_is_told_apart():
    from openpyxl import Workbook
    from openpyxl.worksheet.table import Table

    book = Workbook()
    for row in [("a", "b"), ("x", "y"), ("Total", 2)]:
        book.active.append(row)
    book.active.add_table(Table(displayName="Data", ref="A1:B3", totalsRowCount=1))
    book.save("a.xlsx")
    assert read(Path("a.xlsx")).totals == 3
    found = read_workbook("TRAIN_DATA=a.xlsx", Path("a.xlsx"), None)
    assert found.columns == {"a": ["x"], "b": ["y"]}
    assert found.notes == ("a.xlsx: 1 row left out, totals of the table: row 3.",)


def test_a_cell_that_stands_nowhere_is_an_error():
    with pytest.raises(ValueError, match="no cell is called 7B"):
        read(xlsx('<row><c r="7B"><v>1</v></c></row>'))


def test_the_part_of_a_sheet_is_named_as_in_the_file():
    assert read(xlsx("")).part == "xl/worksheets/sheet1.xml"
