"""An .xls file gives the same text as an .xlsx: excel_97.xls was made with xlwt, which writes what Excel 97 did."""

from pathlib import Path

import pytest

from job.tables.sheet import NoValue
from job.tables.xls_book import open_xls

FILE = Path(__file__).parents[1] / "fixtures" / "workbooks" / "excel_97.xls"


def test_cells_of_each_kind_are_text():
    with open_xls(FILE) as (_, sheet):
        rows = list(sheet.rows)
    assert rows[0].cells == dict(enumerate(["input", "number", "date", "yes", "share", "error", "time"]))
    assert rows[1].cells == {0: "größe 1\n€", 1: "1.5", 2: "2026-03-01", 3: "TRUE", 4: "12.5%", 6: "14:30:00"}
    assert rows[4].cells[5] == "#N/A"
    assert isinstance(rows[4].cells[5], NoValue)


def test_what_is_hidden_and_merged_is_known():
    with open_xls(FILE) as sheets:
        assert [(sheet.name, sheet.hidden) for sheet in sheets] == [("Archive", True), ("Data", False)]
        assert [row.number for row in sheets[1].rows if row.hidden] == [4]
        assert sheets[1].merged == [(6, 0, 7, 0)]


def test_a_damaged_file_raises(tmp_path):
    (tmp_path / "a.xls").write_bytes(FILE.read_bytes()[:2000])
    with pytest.raises(Exception, match=r"."), open_xls(tmp_path / "a.xls"):
        pass
