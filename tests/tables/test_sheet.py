"""A sheet tells whether it has cells without losing a row."""

from job.tables.sheet import Sheet, SheetRow


def test_a_sheet_that_was_asked_for_cells_still_has_all_its_rows():
    rows = [SheetRow(number, {0: f"{number}"}) for number in (1, 5)]
    sheet = Sheet("one", hidden=False, rows=iter(rows))
    assert sheet.has_cells()
    assert sheet.has_cells()
    assert list(sheet.rows) == rows
    assert not sheet.has_cells()
