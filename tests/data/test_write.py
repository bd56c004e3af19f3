"""What is written is what another library reads, and what cannot be written is told before there is anything to lose."""

import json
from pathlib import Path

import pandas
import pytest
from openpyxl import load_workbook

from job.data.write import SUFFIXES, check_place, write_table
from job.errors import OutputError

COLUMNS = {"input": ["a, b", "=1+1", 'she said\n"Grüße 你好 🙂"'], "output": ["NA", "", "007"], "confidence": [-0.5, -1.25, 0.0]}


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
    write_table(COLUMNS, Path(name), "output")
    assert pandas_reads(Path(name)) == COLUMNS


def test_a_text_file_holds_one_column_a_line_a_row():
    write_table({"input": ["x", "y", "z"], "output": ["one", "two\n  lines\tand a tab ", ""]}, Path("a.txt"), "output")
    assert Path("a.txt").read_text() == "one\ntwo lines and a tab\n\n"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_letters_stay_readable_in_json(name):
    write_table(COLUMNS, Path(name), "output")
    assert "Grüße 你好 🙂" in Path(name).read_text(encoding="utf-8")


def test_a_formula_in_a_cell_of_a_workbook_is_text():
    write_table({"output": ['=HYPERLINK("http://x")', "+1", "@a"], "number": [1, 2.5, None]}, Path("a.xlsx"), "output")
    sheet = load_workbook("a.xlsx").active
    assert [cell.data_type for cell in sheet["A"]] == ["s"] * 4
    assert [cell.value for cell in sheet["A"]] == ["output", '=HYPERLINK("http://x")', "+1", "@a"]
    assert [cell.value for cell in sheet["B"]] == ["number", 1, 2.5, None]


def test_what_a_workbooks_cell_cannot_hold_is_cut_and_told_and_stays_whole_in_csv(caplog):
    columns = {"output": ["x" * 40_000, "bell\x07", "fine"]}
    write_table(columns, Path("a.xlsx"), "output")
    assert [cell.value for cell in load_workbook("a.xlsx").active["A"]] == ["output", "x" * 32_767, "bell", "fine"]
    assert "a.xlsx: 2 cells lost control characters or what is beyond 32767 letters; csv keeps all" in caplog.text
    write_table(columns, Path("a.csv"), "output")
    assert pandas.read_csv("a.csv")["output"].tolist() == columns["output"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_without_rows_is_a_file(suffix):
    write_table({"input": [], "output": []}, Path(f"a{suffix}"), "output")
    assert Path(f"a{suffix}").exists()
    if suffix == ".json":
        assert json.loads(Path("a.json").read_text()) == []


@pytest.mark.parametrize(
    ("name", "said"), [("a.doc", r"a.doc: cannot write \.doc\."), ("a", "a: cannot write a file without an ending")]
)
def test_another_ending_is_refused_with_those_there_are(name, said):
    with pytest.raises(OutputError, match=said + r".* \.xlsx, \.csv, \.tsv, \.jsonl, \.json, \.parquet, \.txt\."):
        check_place(Path(name))


def test_a_place_that_is_checked_is_left_as_it_was():
    check_place(Path("new/folder/a.csv"))
    assert list(Path("new/folder").iterdir()) == []
    Path("a.csv").write_text("kept")
    check_place(Path("a.csv"))
    assert Path("a.csv").read_text() == "kept"


@pytest.mark.parametrize("place", ["file/a.csv", "folder.csv"])
def test_a_place_that_cannot_be_written_is_told(place):
    Path("file").touch()
    Path("folder.csv").mkdir()
    with pytest.raises(OutputError, match=rf"^{place}: cannot be written: .*\. Choose another place\.$"):
        write_table(COLUMNS, Path(place), "output")
