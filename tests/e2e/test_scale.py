"""A table larger than anybody's patience is prepared and trained on in the memory of a small one."""

import pytest

from bench.scale import measure, write_rows

pytestmark = pytest.mark.slow


def test_a_hundred_thousand_rows_take_little_more_memory_than_a_tenth_of_them(tmp_path):
    peaks = {}
    for rows in (10_000, 100_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        write_rows(folder / "rows.parquet", rows)
        peaks[rows] = measure(folder, rows, steps=5)["peak_gib"]  # of all processes of the job
    assert 0.3 < peaks[100_000] < 3
    assert peaks[100_000] - peaks[10_000] < 0.35  # 4 kB a row more would be too much
