"""One table from any format: the same cells, as they stand."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pandas
import pytest
from datasets import Dataset, DatasetDict
from openpyxl import Workbook

from job.errors import DataError, InputMissing
from job.tables.file_rows import FileRows
from job.tables.parts import ALL
from job.tables.read import READERS, read_table
from job.tables.table import Source

ROWS = [
    {"input": "NA", "output_ground_truth": "007"},
    {"input": "None, or\nnull", "output_ground_truth": 'she said "1.0"'},
    {"input": "Grüße 你好 🙂", "output_ground_truth": "true"},
]


def read(location: str, **more: str) -> list[dict]:
    return read_table(Source("TRAIN_DATA", location, **more)).rows.to_list()


def write(name: str) -> None:
    """`ROWS` in the format of `name`, by another library than the one that reads."""
    frame = pandas.DataFrame(ROWS)
    suffix = Path(name).suffix
    if suffix == ".xlsx":
        book = Workbook()
        book.create_sheet("data")
        for row in [tuple(ROWS[0]), *[tuple(row.values()) for row in ROWS], (None, None)]:
            book["data"].append(row)
        book.save(name)
    elif suffix in (".csv", ".tsv"):
        frame.to_csv(name, index=False, sep="\t" if suffix == ".tsv" else ",")
    elif suffix in (".json", ".jsonl"):
        frame.to_json(name, orient="records", lines=suffix == ".jsonl", force_ascii=False)
    elif suffix == ".parquet":
        frame.to_parquet(name)
    else:
        Dataset.from_list(ROWS).save_to_disk("saved")
        next(Path("saved").glob("*.arrow")).rename(name)


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow"])
def test_every_format_gives_the_same_text(name):
    write(name)
    assert read(name, sheet="data" if name.endswith("xlsx") else None) == ROWS


def test_a_csv_with_semicolons_and_a_byte_order_mark_as_excel_writes_it():
    pandas.DataFrame(ROWS).to_csv("a.csv", index=False, sep=";", encoding="utf-8-sig")
    assert read("a.csv") == ROWS


def test_a_saved_dataset_and_a_split_of_a_saved_dataset_dict():
    Dataset.from_list(ROWS).save_to_disk("one")
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk("two")
    assert read("one") == ROWS
    assert read("two", split="test") == ROWS[:1]
    assert read("two", split=ALL) == [*ROWS, *ROWS[:1]]
    with pytest.raises(DataError, match=r'no split "dev"; found "train", "test"\. Set TRAIN_SPLIT'):
        read("two", split="dev")


def test_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "parts").mkdir()
    for number, row in enumerate(ROWS):
        pandas.DataFrame([row]).to_json(f"parts/{number}.jsonl", orient="records", lines=True)
    assert read("parts") == ROWS
    assert read("parts/[12].jsonl") == ROWS[1:]


def test_files_with_different_columns_and_formats_are_one_table_with_the_row_of_each_file():
    Path("parts").mkdir()
    Path("parts/a.csv").write_text("input,x\n\n1,2\n")
    Path("parts/b.jsonl").write_text('{"input": "3", "y": "4"}\n')
    pandas.DataFrame([{"input": "5", "x": 6}]).to_parquet("parts/c.parquet")
    table = read_table(Source("TRAIN_DATA", "parts"))
    assert [tuple(row.values()) for row in table.rows] == [("1", "2", None), ("3", None, "4"), ("5", "6", None)]
    assert [table.row_name(index) for index in range(3)] == ["a.csv row 3", "b.jsonl row 1", "c.parquet row 1"]
    assert 'b.jsonl: no column "x", which other files have; it is empty there.' in table.notes


def test_files_whose_names_look_the_same_in_messages_are_all_read(tmp_path):
    for name in ("a\nb.csv", "a\\nb.csv"):
        Path(name).write_text(f"input\n{name!r}\n")
    assert len(read(str(tmp_path))) == 2


def test_an_error_in_one_of_several_files_names_it():
    Path("parts").mkdir()
    Path("parts/a.csv").write_text("a,b\n1,2\n")
    Path("parts/b.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match=r"^TRAIN_DATA=parts: b.csv: row 2 has 3 cells"):
        read("parts")


@pytest.mark.parametrize("held", ["validation.csv", "test.csv"])
def test_the_validation_part_of_a_folder_is_kept_apart_or_its_test_part_where_there_is_none(held):
    Path("d").mkdir()
    for name in {"train.csv", "test.csv", held}:
        Path("d", name).write_text(f"input\n{name}\n")
    table = read_table(Source("TRAIN_DATA", "d"))
    assert [row["input"] for row in table.rows] == ["train.csv"]
    assert [row["input"] for row in table.held_out.rows] == [held]
    assert table.held_out.row_name(0) == f"{held} row 2"
    unused = "" if held == "test.csv" else '; "test.csv": not used'
    assert table.notes[0] == f'"train.csv": train; "{held}": kept apart for the evaluation{unused}.'
    assert read("d", split="test") == [{"input": "test.csv"}]
    assert len(read("d", split=ALL)) == len({"train.csv", "test.csv", held})


def test_a_folder_without_a_training_part_says_what_it_has():
    Path("d").mkdir()
    for name in ("validation.csv", "test.csv"):
        Path("d", name).write_text(f"input\n{name}\n")
    with pytest.raises(DataError, match=r'no part "train" \(test: "test.csv"; validation: "validation.csv"\). Set TRAIN_SPLIT to'):
        read("d")


def test_a_part_within_a_file_is_kept_apart_and_is_what_eval_data_means(monkeypatch):
    held = FileRows({"input": ["b"]}, [1])
    monkeypatch.setitem(READERS, ".json", lambda where, path: FileRows({"input": ["a"]}, [1], ("told",), held))
    Path("a.json").write_text("{}")
    table = read_table(Source("TRAIN_DATA", "a.json"))
    assert (table.rows.to_list(), table.held_out.rows.to_list(), table.notes) == ([{"input": "a"}], [{"input": "b"}], ("told",))
    assert read("a.json", split="test") == [{"input": "b"}]


@pytest.mark.parametrize("column", ["split", "Subset"])
def test_rows_whose_split_column_says_test_are_not_trained_on(column):
    parts = ["train", "test", "train", "dev"]
    pandas.DataFrame({"input": list("abcd"), "output": list("wxyz"), column: parts}).to_csv("a.csv", index=False)
    table = read_table(Source("TRAIN_DATA", "a.csv"))
    assert [(row["input"], table.row_name(index)) for index, row in enumerate(table.rows)] == [("a", "row 2"), ("c", "row 4")]
    assert [table.held_out.row_name(0), *table.held_out.cells("input")] == ["row 5", "d"]
    said = 'the rows of "train" are trained on, those of "dev" kept apart for the evaluation, those of "test" not used.'
    assert table.notes == (f'column "{column}": {said}',)
    assert read("a.csv", split="test") == [{"input": "d", "output": "z", column: "dev"}]
    assert len(read("a.csv", split=ALL)) == 4


def test_a_column_called_split_that_says_other_things_is_a_column():
    for cells in (["train", "left"], ["train", "train"], ["test", "test"], ["train", ""]):
        pandas.DataFrame({"input": list("ab"), "split": cells}).to_csv("a.csv", index=False)
        table = read_table(Source("TRAIN_DATA", "a.csv"))
        assert (len(table.rows), table.held_out) == (2, None)


def test_a_validation_split_stands_in_for_a_test_split_that_is_not_there_and_it_is_told():
    DatasetDict({"train": Dataset.from_list(ROWS), "validation": Dataset.from_list(ROWS[:1])}).save_to_disk("saved")
    table = read_table(Source("EVAL_DATA", "saved", split="test"))
    assert table.rows.to_list() == ROWS[:1]
    assert table.notes == ('split "validation" is read, as there is no "test".',)


def test_splits_of_the_hub_are_told_apart_as_those_of_a_saved_dataset(monkeypatch):
    splits = DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])})
    asked = []

    def load(name, split=None, token=None):
        asked.append((name, split))
        return splits if split is None else splits["train"].select([0])

    monkeypatch.setattr("job.tables.read.load_dataset", load)
    table = read_table(Source("TRAIN_DATA", "org/name"))
    assert (table.rows.to_list(), table.held_out.rows.to_list()) == (ROWS, ROWS[:1])
    assert table.notes == ('split "train" is read, "test" kept apart for the evaluation.',)
    assert len(read("org/name", split="train[:1]")) == 1
    assert asked == [("org/name", None), ("org/name", "train[:1]")]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV.BZ2", "a.jsonl.xz", "a.zip"])
def test_a_compressed_table_is_read_as_what_it_is(name):
    pandas.DataFrame(ROWS).to_csv("b.csv", index=False)
    pandas.DataFrame(ROWS).to_json("b.jsonl", orient="records", lines=True)
    content = Path("b.jsonl" if "jsonl" in name else "b.csv").read_bytes()
    if name == "a.zip":
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("b.csv", content)
    else:
        packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[Path(name).suffix.lower()](content)
        Path(name).write_bytes(packed)
    assert read(name) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "a,b\n", 'no rows below "a", "b". Put at least a header and some rows into it.'),
        ("a.csv", "", "a.csv is empty. Put at least a header and some rows into it."),
        ("a.pdf", "x", "cannot read .pdf. Save it as one of .xlsx, .xlsm, .xls, .ods, .csv"),
        ("a.gz", "x", "a.gz cannot be unpacked"),
    ],
)
def test_a_file_without_rows_or_of_another_kind_is_told(name, content, said):
    Path(name).write_text(content)
    with pytest.raises(DataError) as caught:
        read(name)
    assert str(caught.value).startswith(f"TRAIN_DATA={name}: {said}")


def test_a_name_of_the_hub_that_is_nearly_a_file_here_is_told_with_that():
    Path("appointments.csv").write_text("input\nx\n")
    with pytest.raises(InputMissing, match=r'TRAIN_DATA=apointments: no such file here but "appointments.csv", and the hub is not'):
        read("apointments")


def test_a_json_object_around_the_list_is_looked_into():
    Path("a.json").write_text('{"version": 1, "data": [{"input": "x"}]}')
    assert read("a.json") == [{"input": "x"}]


def test_columns_without_a_name_are_called_by_their_letters_in_a_spreadsheet():
    book = Workbook()
    for row in [("input", None, "target"), ("a", 5, "b")]:
        book.active.append(row)
    book.save("a.xlsx")
    assert read("a.xlsx") == [{"input": "a", "B": "5", "target": "b"}]


def test_the_row_numbers_of_a_spreadsheet_count_its_header():
    write("a.csv")
    table = read_table(Source("TRAIN_DATA", "a.csv"))
    assert table.row_name(0) == "row 2"


def test_columns_that_cannot_be_used_are_told_with_their_file():
    Path("data").mkdir()
    Path("data/a.csv").write_text("input,x,x\na,1,2\n")
    Path("data/b.csv").write_text("input,x\nb,1\n")
    with pytest.raises(DataError, match=r'^TRAIN_DATA=data: column "x": a.csv: 2 columns have that name: rename the others\.$'):
        read_table(Source("TRAIN_DATA", "data")).check_usable(["x"])
