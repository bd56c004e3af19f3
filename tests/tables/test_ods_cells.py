"""The cells of an .ods file, as LibreOffice and Google Sheets write them."""

import pytest

from job.tables.ods_cells import open_ods
from job.tables.sheet import NOT_COMPUTED, NoValue, SheetRow
from tests.tables.made_workbooks import ods

TEXT = 'office:value-type="string"'


def rows(xml: str) -> list[SheetRow]:
    with open_ods(ods(f'<table:table table:name="One">{xml}</table:table>')) as (sheet,):
        return list(sheet.rows)


def cell(attributes: str, content: str = "") -> str | None:
    found = rows(f"<table:table-row><table:table-cell {attributes}>{content}</table:table-cell></table:table-row>")
    return found[0].cells[0] if found else None


@pytest.mark.parametrize(
    ("attributes", "content", "text"),
    [
        (TEXT, "<text:p>a</text:p>", "a"),
        (TEXT, "<text:p>a<text:s text:c='2'/>b<text:tab/>c</text:p><text:p><text:span>d</text:span>e</text:p>", "a  b\tc\nde"),
        (TEXT, "<office:annotation><text:p>remark</text:p></office:annotation><text:p>a</text:p>", "a"),
        (TEXT, "<text:p><text:ruby><text:span>字</text:span><text:ruby-text>ji</text:ruby-text></text:ruby></text:p>", "字"),
        ('office:value-type="float" office:value="0.30000000000000004"', "<text:p>0,30</text:p>", "0.3"),
        ('office:value-type="float" office:value="1"', "<text:p>1,00</text:p>", "1"),
        ('office:value-type="percentage" office:value="0.125"', "<text:p>13 %</text:p>", "12.5%"),
        ('office:value-type="currency" office:value="1234.5"', "<text:p>1.234,50 €</text:p>", "1234.5"),
        ('office:value-type="date" office:date-value="2026-03-01"', "<text:p>01.03.26</text:p>", "2026-03-01"),
        ('office:value-type="date" office:date-value="2026-03-01T14:30:00.5"', "", "2026-03-01 14:30:00"),
        ('office:value-type="time" office:time-value="PT36H05M00S"', "", "36:05:00"),
        ('office:value-type="boolean" office:boolean-value="true"', "<text:p>WAHR</text:p>", "TRUE"),
        ('office:value-type="boolean" office:boolean-value="false"', "", "FALSE"),
        ("", "", None),
    ],
)  # fmt: skip
def test_a_cell_of_each_kind_is_text(attributes, content, text):
    assert cell(attributes, content) == text


def test_errors_and_formulas_that_were_never_computed_are_no_values():
    error = cell('table:formula="of:=1/0" office:value-type="string" calcext:value-type="error"', "<text:p>#DIV/0!</text:p>")
    assert isinstance(error, NoValue)
    assert error == "#DIV/0!"
    assert cell('table:formula="of:=A1"') is NOT_COMPUTED


def test_repeated_cells_and_rows_stand_in_each_place_and_empty_ones_in_none():
    text = '<table:table-cell office:value-type="string" table:number-columns-repeated="2"><text:p>a</text:p></table:table-cell>'
    xml = (
        '<table:table-row table:number-rows-repeated="2"><table:table-cell table:number-columns-repeated="3"/>'
        f'{text}<table:table-cell table:number-columns-repeated="16379"/></table:table-row>'
        '<table:table-row table:number-rows-repeated="1048574"><table:table-cell/></table:table-row>'
    )
    assert [(row.number, row.cells) for row in rows(xml)] == [(1, {3: "a", 4: "a"}), (2, {3: "a", 4: "a"})]


@pytest.mark.parametrize("where", ["rows", "columns"])
def test_nothing_is_repeated_beyond_the_end_of_a_sheet(where):
    row, column = (
        ('table:number-rows-repeated="99999999"', "") if where == "rows" else ("", 'table:number-columns-repeated="99999999"')
    )
    text = f'<table:table-cell office:value-type="string" {column}><text:p>a</text:p></table:table-cell>'
    with pytest.raises(ValueError, match="repeated 99999999 times"):
        rows(f"<table:table-row {row}>{text}</table:table-row>")


def test_what_is_hidden_and_merged_is_known():
    styles = '<style:style style:name="ta2" style:family="table"><style:table-properties table:display="false"/></style:style>'
    a = '<table:table-cell office:value-type="string"><text:p>a</text:p></table:table-cell>'
    merged = a.replace("<table:table-cell", '<table:table-cell table:number-rows-spanned="2"', 1)
    xml = (
        f'<table:table table:name="One" table:style-name="ta2"><table:table-row>{a}</table:table-row></table:table>'
        '<table:table table:name="Two" table:style-name="ta1">'
        f"<table:table-header-rows><table:table-row>{merged}</table:table-row></table:table-header-rows>"
        f'<table:table-row table:visibility="filter">{a}</table:table-row></table:table>'
    )
    with open_ods(ods(xml, styles=styles)) as sheets:
        assert [(sheet.name, sheet.hidden) for sheet in sheets] == [("One", True), ("Two", False)]
        assert [(row.number, row.hidden) for row in sheets[1].rows] == [(1, False), (2, True)]
        assert sheets[1].merged == [(1, 0, 2, 0)]


def test_a_table_within_a_cell_is_no_rows_of_the_sheet():

    def row(text: str, inside: str = "") -> str:
        cell = f"<table:table-cell {TEXT}><text:p>{text}</text:p>{inside}</table:table-cell>"
        return f"<table:table-row>{cell}</table:table-row>"

    xml = row("a", f"<table:table>{row('x')}</table:table>") + row("b")
    assert [(row.number, row.cells) for row in rows(xml)] == [(1, {0: "a"}), (2, {0: "b"})]
