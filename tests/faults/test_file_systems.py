"""File systems that go, fill or become read-only under a run: a line that says so, its code, and the same command resumes."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import do_after_step
from tests.faults.conftest import status, weights

pytestmark = pytest.mark.slow
Mount = Callable[[str, str], Path]


@pytest.fixture
def mount(tmp_path) -> Iterator[Mount]:
    """Mounts a tmpfs with these options in the test's folder."""
    mounted = []

    def make(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(
    ("gone", "variable"), [("output/r", "OUTPUT_DIR"), ("logs", "LOGS_DIR"), ("output/r/checkpoints", "OUTPUT_DIR")]
)
def test_a_folder_that_is_deleted_while_the_job_trains(run_job, variables, monkeypatch, gone, variable):
    assert run_job(**variables)[0] == 0
    expected = weights()
    with monkeypatch.context() as patch:
        do_after_step(patch, 3, lambda **_: shutil.rmtree(gone))
        code, said = run_job(**variables | {"OVERWRITE": "true"})
    assert code == (0 if gone.endswith("checkpoints") else 73), said  # which are made anew
    assert code == 0 or f"{variable}: {gone}" in said.splitlines()[-1]
    assert code == 0 or "is gone, deleted while the job ran" in said.splitlines()[-1]
    assert gone == "output/r" or (code == 0 or status()["exit_code"] == 73)
    assert run_job(**variables)[0] == 0
    assert weights() == expected


def test_no_room_for_further_files(run_job, variables, mount):
    mount("output", "size=200m,nr_inodes=40")
    code, said = run_job(**variables)
    assert code == 74, said
    assert "its inodes are used up" in said.splitlines()[-1]
    assert (status()["state"], status()["exit_code"]) == ("failed", 74)


def test_a_cache_without_room_is_no_damaged_file(run_job, variables, mount, monkeypatch, tmp_path):
    """`datasets` converts a parquet file there."""
    rows = 20_000
    table = {"input": [f"the {n} of May {'x' * 300}" for n in range(rows)]}
    pq.write_table(pa.table(table | {"output_ground_truth": [f"05-{n}" for n in range(rows)]}), tmp_path / "x.parquet")
    cache = mount("cache", "size=4m")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache / "datasets")
    code, said = run_job("prepare", **variables | {"TRAIN_DATA": "x.parquet", "HF_HOME": cache})
    assert code == 74, said
    assert said.splitlines()[-1].startswith("HF_HOME: ")
    assert "no space left" in said.splitlines()[-1]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(run_job, variables, monkeypatch, number):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    code, said = run_job(**variables)
    assert code == 73
    assert said.splitlines()[-1].startswith(f"output/r: its file system has no locks ({os.strerror(number)})")


def test_a_file_system_that_cannot_sync_a_folder_is_used_as_it_is(run_job, variables, monkeypatch):
    usual = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        usual(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert run_job(**variables)[0] == 0
    assert status()["state"] == "done"
