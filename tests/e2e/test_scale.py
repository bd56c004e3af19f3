"""A table larger than anybody's patience is prepared and trained on in the memory of a small one."""

import pytest

from bench.scale import measure, write_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def peaks(tmp_path_factory) -> dict[int, float]:
    """Rows -> peak memory of all processes of the job, GiB."""
    found = {}
    for rows in (10_000, 100_000):
        folder = tmp_path_factory.mktemp(str(rows))
        write_rows(folder / "rows.parquet", rows)
        found[rows] = measure(folder, rows, steps=5)["peak_gib"]
    return found


def test_a_hundred_thousand_rows_take_less_than_three_gib(peaks):
    assert 0.3 < peaks[100_000] < 3


def test_ten_times_the_rows_take_little_more_memory(peaks):
    assert peaks[100_000] - peaks[10_000] < 0.35  # 4 kB a row more would be too much
