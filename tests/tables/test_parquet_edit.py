"""Parquet and arrow files come back with their schema, types and row groups, and `datasets` and pandas read them."""

from datetime import date
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from job.tables.added_columns import AddedColumns
from job.tables.parquet_edit import edit_arrow, edit_parquet

ADDED = AddedColumns(("output", "confidence"), {1: ("x", -0.5), 2: (None, None), 3: ("z", -1.0)})
TABLE = pa.table(
    {
        "input": ["a", "b", None],
        "when": [date(2026, 11, 26), None, None],
        "small": pa.array([1, 2, 3], pa.int8()),
        "nested": [{"a": [1]}, {"a": []}, None],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
    }
)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "none"])
def test_schema_cells_row_groups_and_compression_stay(codec):
    pq.write_table(TABLE, "a.parquet", row_group_size=2, compression=codec)
    edit_parquet(Path("a.parquet"), Path("b.parquet"), ADDED)
    made, before = pq.read_table("b.parquet"), pq.read_table("a.parquet")
    assert made.select(before.column_names) == before
    assert made.schema.names[-2:] == ["output", "confidence"]
    assert made["output"].to_pylist() == ["x", None, "z"]
    assert made["confidence"].to_pylist() == [-0.5, None, -1.0]
    files = [pq.ParquetFile(name).metadata for name in ("a.parquet", "b.parquet")]
    assert [file.num_row_groups for file in files] == [2, 2]
    assert len({file.row_group(0).column(0).compression for file in files}) == 1


def test_pandas_and_its_index_come_back():
    frame = pandas.DataFrame({"input": ["a", "b", "c"], "n": [1, 2, 3]}, index=[10, 20, 30])
    frame.to_parquet("a.parquet")
    edit_parquet(Path("a.parquet"), Path("b.parquet"), ADDED)
    made = pandas.read_parquet("b.parquet")
    assert made.index.tolist() == [10, 20, 30]
    assert made[["input", "n"]].equals(frame)
    assert made["output"].tolist()[0] == "x"


def test_datasets_reads_the_types_that_it_wrote_and_the_new_columns():
    features = Features({"input": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = Dataset.from_dict({"input": ["a", "b", "c"], "label": [0, 1, 1]}, features=features)
    rows.to_parquet("a.parquet")
    edit_parquet(Path("a.parquet"), Path("b.parquet"), ADDED)
    made = Dataset.from_parquet("b.parquet")
    assert made.features["label"] == features["label"]
    assert made.features["output"] == Value("string")
    assert made["confidence"][:] == [-0.5, None, -1.0]


def test_an_arrow_file_comes_back_as_one():
    Dataset(TABLE.select(["input", "small"])).save_to_disk("saved")
    source = next(Path("saved").glob("*.arrow"))
    edit_arrow(source, Path("b.arrow"), ADDED)
    made = Dataset.from_file("b.arrow")
    assert made["small"][:] == [1, 2, 3]
    assert made["output"][:] == ["x", None, "z"]
