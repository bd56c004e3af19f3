"""Where answers go: to the same name, in the same format, never over the questions; what cannot be written is told at once."""

import shutil
from pathlib import Path

import pytest
from datasets import Dataset

from job.errors import DataError, InputMissing, OutputError
from job.tables.destination import Destination, choose_destination
from job.tables.table import Source


def choose(location: str, wanted: str | None = None) -> Destination:
    return choose_destination(Source("FILE", location, split="all"), wanted, Path("predictions"))


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"input\n{name}\n")


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv", "A.TSV", "a.jsonl", "a.json", "a.parquet", "a.txt", "a.csv.gz", "a.zip"])
def test_a_file_comes_back_under_its_own_name(name):
    touch(name)
    found = choose(name)
    assert found.path == Path("predictions") / name
    assert found.files == ((Path(name), found.path),)


def test_a_place_may_be_a_file_or_a_folder():
    touch("a.csv")
    Path("there").mkdir()
    assert choose("a.csv", "b.csv").files == ((Path("a.csv"), Path("b.csv")),)
    assert choose("a.csv", "there").path == Path("there/a.csv")
    assert choose("a.csv", "new/").path == Path("new/a.csv")


def test_another_ending_is_a_new_table():
    touch("a.csv", "b.ndjson")
    assert choose("a.csv", "b.xlsx").files == ()
    assert choose("b.ndjson", "c.jsonl").files == ((Path("b.ndjson"), Path("c.jsonl")),)


@pytest.mark.parametrize("name", ["a.xls", "a.ods"])
def test_a_workbook_that_cannot_be_written_becomes_an_xlsx_and_that_is_told(name, caplog, monkeypatch):
    monkeypatch.setattr("job.tables.destination.READABLE", (".xls", ".ods"))
    touch(name)
    found = choose(name)
    assert (found.path, found.files) == (Path("predictions/a.xlsx"), ())
    assert f"{name}: {Path(name).suffix} files cannot be written; the answers go to a new .xlsx" in caplog.text
    with pytest.raises(OutputError, match=rf"b\{Path(name).suffix}: cannot write \{Path(name).suffix}\. Use one of"):
        choose(name, f"b{Path(name).suffix}")


def test_several_files_come_back_each():
    touch("in/x.csv", "in/deep/y.csv")
    found = choose("in")
    assert found.path == Path("predictions/in")
    assert dict(found.files) == {
        Path("in/x.csv"): Path("predictions/in/x.csv"),
        Path("in/deep/y.csv"): Path("predictions/in/deep/y.csv"),
    }
    assert choose("in/*.csv", "out").files == ((Path("in/x.csv"), Path("out/x.csv")),)
    assert choose("in", "all.xlsx").files == ()


def test_files_come_back_under_names_that_no_message_could_show_whole():
    names = ["a\nb.csv", "a\\nb.csv", f"{'x' * 110}1{'x' * 110}.csv", f"{'x' * 110}2{'x' * 110}.csv"]
    touch(*(f"in/{name}" for name in names))
    assert {target for _, target in choose("in").files} == {Path("predictions/in", name) for name in names}


def test_a_saved_dataset_becomes_json_lines():
    Dataset.from_dict({"input": ["a"]}).save_to_disk("saved")
    assert choose("saved").path == Path("predictions/saved.jsonl")
    assert choose("saved", "a.parquet").path == Path("a.parquet")


@pytest.mark.parametrize("wanted", ["a.csv", "./a.csv", "link.csv", "."])
def test_the_questions_are_never_overwritten(wanted):
    touch("a.csv")
    Path("link.csv").symlink_to("a.csv")
    with pytest.raises(OutputError, match=r"the answers would overwrite the questions\. Name another file."):
        choose("a.csv", wanted)


@pytest.mark.parametrize(
    ("name", "said"), [("b.doc", r"b.doc: cannot write \.doc\."), ("b", r"b: cannot write a file without an ending\.")]
)
def test_another_ending_is_refused_with_those_there_are(name, said):
    touch("a.csv")
    with pytest.raises(OutputError, match=said + r" Use one of \.xlsx, \.csv, .*\.txt\."):
        choose("a.csv", name)


@pytest.mark.parametrize("place", ["file/b.csv", "folder.csv"])
def test_a_place_that_cannot_be_written_is_told(place):
    touch("a.csv", "file")
    Path("folder.csv/a.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match=f"^{place}(/a.csv)?: "):
        choose("a.csv", place)


def test_a_file_that_cannot_be_read_is_not_told_as_one_that_cannot_be_written():
    touch("a.docx")
    with pytest.raises(DataError, match=r"FILE=a\.docx: a\.docx is a Word document"):
        choose("a.docx")


def test_a_table_that_is_not_there_is_told_before_anything_else():
    with pytest.raises(InputMissing, match=r"FILE=none\.csv: no such file"):
        choose("none.csv", "b.doc")


def test_a_place_that_is_checked_is_left_as_it_was():
    touch("a.csv", "b.csv")
    choose("a.csv", "b.csv")
    choose("a.csv", "new/b.csv")
    assert Path("b.csv").read_text() == "input\nb.csv\n"
    assert list(Path("new").iterdir()) == []


def test_a_file_that_changed_meanwhile_is_told_with_where_its_answers_are():
    touch("a.csv")
    found = choose("a.csv")
    found.check_unchanged(Path("kept"))
    Path("a.csv").write_text("input\nanother\n")
    with pytest.raises(DataError, match=r"FILE=a\.csv: it changed while its rows were answered\. .* kept in kept and serve"):
        found.check_unchanged(Path("kept"))
    Path("a.csv").unlink()
    with pytest.raises(DataError, match="it changed"):
        found.check_unchanged(Path("kept"))
    shutil.rmtree("predictions")
