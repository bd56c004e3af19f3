"""One table from any format: the same cells, as they stand."""

from pathlib import Path

import pandas
import pytest
from datasets import Dataset, DatasetDict
from openpyxl import Workbook

from job.data.read import Source, read_table
from job.errors import DataError

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
    with pytest.raises(DataError, match=r'no split "dev"; found "train", "test"\. Set TRAIN_SPLIT'):
        read("two", split="dev")


def test_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "parts").mkdir()
    for number, row in enumerate(ROWS):
        pandas.DataFrame([row]).to_json(f"parts/{number}.jsonl", orient="records", lines=True)
    assert read("parts") == ROWS
    assert read("parts/[12].jsonl") == ROWS[1:]


def test_files_with_different_columns_are_not_mixed(tmp_path):
    (tmp_path / "parts").mkdir()
    Path("parts/a.csv").write_text("input,x\n1,2\n")
    Path("parts/b.csv").write_text("input,y\n1,2\n")
    with pytest.raises(DataError, match=r'a.csv has the columns "input", "x", b.csv has "input", "y"'):
        read("parts")


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
