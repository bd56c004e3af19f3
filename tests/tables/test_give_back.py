"""A table comes back whole or not at all, and what cannot be written is found out in the rehearsal."""

import json
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook

from job.errors import OutputError
from job.tables import edit
from job.tables.destination import choose_destination
from job.tables.give_back import Columns, give_back, rehearse
from job.tables.read import read_table
from job.tables.table import Source


def back(location: str, wanted: str, cells: list[tuple], names: tuple[str, ...] = ("output",), sheet: str | None = None) -> Path:
    """Where the table was given back to, after a rehearsal that left nothing."""
    source = Source("FILE", location, sheet, split="all")
    table, destination = read_table(source), choose_destination(source, wanted, Path("predictions"))
    destination = rehearse(destination, table, names)
    assert not any(destination.folder.rglob("*.partial"))
    give_back(destination, table, Columns(names, cells))
    assert not any(destination.folder.rglob("*.partial"))
    return destination.path


def test_each_row_gets_its_own_answer_and_rows_that_the_reader_skips_none():
    Path("a.csv").write_text("input,n\nx,1\n\ny,2\n")
    assert back("a.csv", "b.csv", [("for x",), ("for y",)]).read_text() == "input,n,output\nx,1,for x\n\ny,2,for y\n"


def test_an_older_file_is_replaced_at_once_and_stays_where_writing_fails(monkeypatch):
    Path("a.csv").write_text("input\nx\n")
    Path("b.csv").write_text("older")
    back("a.csv", "b.csv", [("y",)])
    assert Path("b.csv").read_text() == "input,output\nx,y\n"

    def fail(source, target, added, sheet):
        target.write_text("half")
        raise OSError(5, "Input/output error")

    monkeypatch.setitem(edit.EDITORS, ".csv", fail)
    with pytest.raises(OutputError, match=r"b\.csv: the table cannot be written so \(Input/output error\)\. Name another file"):
        back("a.csv", "b.csv", [("z",)])
    assert Path("b.csv").read_text() == "input,output\nx,y\n"
    assert sorted(path.name for path in Path().iterdir()) == ["a.csv", "b.csv"]


def test_what_a_library_raises_is_told_in_one_line(monkeypatch):
    Path("a.csv").write_text("input\nx\n")

    def fail(source, target, added, sheet):
        raise KeyError("xl/workbook.xml")

    monkeypatch.setitem(edit.EDITORS, ".csv", fail)
    with pytest.raises(OutputError, match=r"b\.csv: the table cannot be written so \(KeyError: 'xl/workbook.xml'\)\."):
        back("a.csv", "b.csv", [("z",)])


def test_a_full_disk_is_told_as_one(monkeypatch):
    Path("a.csv").write_text("input\nx\n")

    def fail(source, target, added, sheet):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(edit.EDITORS, ".csv", fail)
    with pytest.raises(OSError, match="No space left"):
        back("a.csv", "b.csv", [("z",)])


def test_several_files_come_back_each_with_its_own_rows_or_none_does(monkeypatch):
    Path("in").mkdir()
    Path("in/x.csv").write_text("input\na\nb\n")
    Path("in/y.jsonl").write_text('{"input": "c"}\n')
    folder = back("in", "out", [("1",), ("2",), ("3",)])
    assert (folder / "x.csv").read_text() == "input,output\na,1\nb,2\n"
    assert (folder / "y.jsonl").read_text() == '{"input": "c", "output": "3"}\n'

    def fail(source, target, added, sheet):
        raise ValueError("no")

    monkeypatch.setitem(edit.EDITORS, ".jsonl", fail)
    with pytest.raises(OutputError, match=r"out/y\.jsonl"):
        back("in", "out", [("7",), ("8",), ("9",)])
    assert (folder / "x.csv").read_text() == "input,output\na,1\nb,2\n"
    assert not any(folder.glob("*.partial"))


def test_several_files_may_become_one():
    Path("in").mkdir()
    Path("in/x.csv").write_text("input\na\n")
    Path("in/y.csv").write_text("input\nb\n")
    path = back("in", "all.jsonl", [("1",), ("2",)])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"input": "a", "output": "1"},
        {"input": "b", "output": "2"},
    ]


def test_rows_without_a_place_of_their_own_go_to_a_new_table(caplog):
    article = {"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "id": "1", "answers": []}] * 2}]}
    Path("a.json").write_text(json.dumps({"data": [article]}))
    made = json.loads(back("a.json", "b.json", [("1",), ("2",)]).read_text())
    assert [row["output"] for row in made] == ["1", "2"]
    assert "b.json: the rows have no places of their own in the file; they go to a new table" in caplog.text


def test_another_format_has_all_columns_and_the_new_ones():
    book = Workbook()
    for row in (["input", "n"], ["a", 1], ["b", 2.5]):
        book.active.append(row)
    book.save("a.xlsx")
    path = back("a.xlsx", "b.jsonl", [("1", -0.5), (None, None)], ("output", "confidence"))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"input": "a", "n": "1", "output": "1", "confidence": -0.5},
        {"input": "b", "n": "2.5", "output": None, "confidence": None},
    ]
    back("b.jsonl", "c.xlsx", [("1",), ("=2",)], ("output_2",))
    assert [cell.value for cell in load_workbook("c.xlsx").active["E"]] == ["output_2", "1", "=2"]


def test_what_a_file_could_not_take_is_told_under_its_name(caplog):
    Path("a.csv").write_bytes("input;n\nfür die schöne Müllerin;größer\n".encode("cp1252"))
    back("a.csv", "b.csv", [("你好",)])
    assert [record.getMessage() for record in caplog.records] == ['b.csv: is UTF-8, since cp1252 has no "你"']
