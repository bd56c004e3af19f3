"""Parquet, arrow and feather files: those of other programs too, and damage is told."""

from datetime import time, timedelta
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.errors import DataError
from job.tables.added_columns import AddedColumns
from job.tables.parquet_edit import edit_arrow
from job.tables.read import read_table
from job.tables.table import Source, Table

FRAME = pandas.DataFrame({"input": ["a", "b"], "output": ["x", "y"]})
RECORDS = FRAME.to_dict("records")


def read(name: str) -> Table:
    return read_table(Source("TRAIN_DATA", name))


def write(name: str, table: pa.Table) -> str:
    with pa.ipc.new_file(name, table.schema) as writer:
        writer.write_table(table)
    return name


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_a_feather_file_is_read_under_either_ending(compression):
    for name in ("a.feather", "a.arrow"):
        FRAME.to_feather(name, compression=compression)
        assert read(name).rows.to_list() == RECORDS


def test_an_arrow_file_comes_back_as_one_with_all_its_batches():
    table = pa.concat_tables([pa.table({"input": ["a"]}), pa.table({"input": ["b"]})])
    edit_arrow(Path(write("a.arrow", table)), Path("b.arrow"), AddedColumns(("output",), {1: ("x",), 2: ("y",)}))
    with pa.ipc.open_file("b.arrow") as file:
        assert file.num_record_batches == 2
        assert file.read_all().to_pylist() == RECORDS


def test_types_that_datasets_does_not_know_are_read_as_their_json():
    pq.write_table(pa.table({"input": ["a"], "meta": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32()))}), "a.parquet")
    assert read("a.parquet").rows.to_list() == [{"input": "a", "meta": '{"k": 1}'}]


def test_columns_of_one_name_are_no_fault_until_they_are_used():
    pq.write_table(pa.table([["a"], ["1"], ["2"]], ["input", "x", "x"]), "a.parquet")
    table = read("a.parquet")
    assert table.rows.to_list() == [{"input": "a", "x": "1", "x (2)": "2"}]
    with pytest.raises(DataError, match=r'column "x": 2 columns have that name: rename the others\.$'):
        table.check_usable(["x"])


def test_a_file_without_rows_is_told_as_such():
    pq.write_table(pa.table({"input": pa.array([], pa.string())}), "a.parquet")
    with pytest.raises(DataError, match=r'^TRAIN_DATA=a\.parquet: no rows below "input"\.'):
        read("a.parquet")


def test_moments_that_python_has_no_form_for_are_told_in_their_cells():
    far = pa.array([2**62, None], pa.timestamp("us"))
    pq.write_table(pa.table({"input": ["a", "b"], "when": far}), "a.parquet")
    assert list(read("a.parquet").cells("when")) == [f"<value out of range: {2**62}>", None]
    pq.write_table(pa.table({"input": ["a"], "in": pa.array([[2**62]], pa.list_(pa.timestamp("us")))}), "b.parquet")
    with pytest.raises(DataError, match=r"^TRAIN_DATA=b\.parquet: b\.parquet is damaged or not a \.parquet file: date value"):
        read("b.parquet")


def test_durations_and_times_are_text():
    columns = {"took": [timedelta(hours=36)], "at": [time(9, 5)], "half": pa.array([1.5], pa.float16()), "no": pa.nulls(1)}
    pq.write_table(pa.table({"input": ["a"], **columns}), "a.parquet")
    assert read("a.parquet").rows.to_list() == [
        {"input": "a", "took": "1 day, 12:00:00", "at": "09:05:00", "half": "1.5", "no": None}
    ]
