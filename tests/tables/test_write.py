"""What is written is what another library reads, in every format, whatever the types of the cells."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pandas
import pyarrow as pa
import pytest
from datasets import Dataset
from openpyxl import load_workbook

from job.errors import OutputError
from job.tables import write
from job.tables.write import SUFFIXES, write_table

COLUMNS = {"input": ["a, b", "1+1", 'she said\n"Grüße 你好 🙂"'], "output": ["NA", "", "007"], "confidence": [-0.5, -1.25, 0.0]}


def write_columns(columns: dict[str, list], name: str) -> tuple[str, ...]:
    return write_table(pa.table(columns), Path(name), Path(name).suffix.lower(), "output")


def pandas_reads(path: Path) -> dict[str, list]:
    text = {"input": str, "output": str}
    readers = {
        ".csv": lambda: pandas.read_csv(path, dtype=text, keep_default_na=False),
        ".tsv": lambda: pandas.read_csv(path, dtype=text, keep_default_na=False, sep="\t"),
        ".jsonl": lambda: pandas.read_json(path, lines=True, dtype=False),
        ".json": lambda: pandas.read_json(path, dtype=False),
        ".parquet": lambda: pandas.read_parquet(path),
        ".xlsx": lambda: pandas.read_excel(path, dtype=text, keep_default_na=False),
    }
    return readers[path.suffix.lower()]().to_dict("list")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.xlsx", "A.CSV"])
def test_another_library_reads_the_same_cells(name):
    write_columns(COLUMNS, name)
    assert pandas_reads(Path(name)) == COLUMNS


def test_a_text_file_holds_one_column_a_line_a_row():
    write_columns({"input": ["x", "y", "z"], "output": ["one", "two\n  lines\tand a tab ", ""]}, "a.txt")
    assert Path("a.txt").read_text() == "one\ntwo lines and a tab\n\n"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_letters_stay_readable_in_json(name):
    write_columns(COLUMNS, name)
    assert "Grüße 你好 🙂" in Path(name).read_text(encoding="utf-8")


def test_a_formula_in_a_cell_of_a_workbook_is_text():
    write_columns({"output": ['=HYPERLINK("http://x")', "+1", "@a"], "number": [1, 2.5, None]}, "a.xlsx")
    sheet = load_workbook("a.xlsx").active
    assert [cell.data_type for cell in sheet["A"]] == ["s"] * 4
    assert [cell.value for cell in sheet["A"]] == ["output", '=HYPERLINK("http://x")', "+1", "@a"]
    assert [cell.value for cell in sheet["B"]] == ["number", 1, 2.5, None]


def test_what_a_workbooks_cell_cannot_hold_is_cut_and_told_and_stays_whole_in_csv():
    columns = {"output": ["x" * 40_000, "bell\x07", "fine"]}
    assert write_columns(columns, "a.xlsx") == ("2 cells lost control characters or what is beyond 32767 letters; csv keeps all",)
    assert [cell.value for cell in load_workbook("a.xlsx").active["A"]] == ["output", "x" * 32_767, "bell", "fine"]
    write_columns(columns, "a.csv")
    assert pandas.read_csv("a.csv")["output"].tolist() == columns["output"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_without_rows_is_a_file(suffix):
    write_columns({"input": [], "output": []}, f"a{suffix}")
    assert Path(f"a{suffix}").exists()
    if suffix == ".json":
        assert json.loads(Path("a.json").read_text()) == []


ODD = {
    "output": ["a", "b"],
    "moment": [datetime(2026, 11, 26, 9, 5), None],
    "day": [date(1800, 1, 1), date(2026, 11, 26)],
    "zone": [datetime(2026, 11, 26, tzinfo=UTC), None],
    "time": [time(9, 5), None],
    "span": [timedelta(days=1), None],
    "bytes": [b"x\xff", None],
    "price": [Decimal("1.50"), None],
    "number": [float("nan"), float("inf")],
    "large": [2**60, 1],
    "yes": [True, None],
    "list": [[date(2026, 1, 1)], []],
    "object": [{"a": {"b": 1.5}}, None],
    "nothing": [None, None],
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_type_of_cell_stops_any_format(suffix):
    write_columns(ODD, f"a{suffix}")
    assert Path(f"a{suffix}").stat().st_size > 0


def test_types_that_json_lacks_are_iso_8601_and_text():
    write_columns(ODD, "a.jsonl")
    first, second = map(json.loads, Path("a.jsonl").read_text().splitlines())
    assert first == {
        "output": "a", "moment": "2026-11-26T09:05:00", "day": "1800-01-01", "zone": "2026-11-26T00:00:00+00:00",
        "time": "09:05:00", "span": "1 day, 0:00:00", "bytes": "x\\xff", "price": "1.50", "number": None, "large": 2**60,
        "yes": True, "list": ["2026-01-01"], "object": {"a": {"b": 1.5}}, "nothing": None,
    }  # fmt: skip
    assert second["list"] == []


def test_a_workbook_has_dates_as_dates_and_digits_beyond_its_own_as_text():
    write_columns(ODD, "a.xlsx")
    header, first, _ = load_workbook("a.xlsx").active.iter_rows(values_only=True)
    found = dict(zip(header, first, strict=True))
    assert found["moment"] == datetime(2026, 11, 26, 9, 5)
    assert found["large"] == str(2**60)
    assert found["day"] == "1800-01-01"
    assert found["object"] == '{"a": {"b": 1.5}}'


def test_a_csv_is_for_spreadsheet_programs_with_its_umlauts_and_without_formulas():
    write_columns({"input": ["Grüße", "=1+1"], "output": ["-5", "+A1"]}, "a.csv")
    assert Path("a.csv").read_bytes() == "\ufeffinput,output\r\nGrüße,-5\r\n'=1+1,'+A1\r\n".encode()


def test_an_arrow_file_is_read_by_datasets():
    write_columns(COLUMNS, "a.arrow")
    assert Dataset.from_file("a.arrow").to_dict() == COLUMNS


def test_more_rows_than_a_workbook_holds_are_told(monkeypatch):
    monkeypatch.setattr(write, "LAST_ROW", 3)
    with pytest.raises(OutputError, match=r"3 rows of 1 columns are more than a workbook holds\. Name a file \.csv\."):
        write_columns({"output": ["a", "b", "c"]}, "a.xlsx")
