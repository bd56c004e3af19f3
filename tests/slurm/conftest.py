"""A cluster for the tests of this folder, jobs on it, and the run that nothing disturbed."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.job import Job


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, idle. Slurm is installed if it may be. In CI it must; elsewhere the tests are skipped, loudly."""
    ready = subprocess.run([Path(__file__).parent / "packages.sh"], text=True, capture_output=True, check=False)
    if ready.returncode:
        reason = f"NO SLURM TEST RAN: {ready.stderr.strip()}"
        pytest.exit(reason, returncode=1) if os.environ.get("CI") else pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def make_job(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, t5_folder: Path) -> Callable[[], Job]:
    """Makes jobs that are not submitted yet, each in a folder of its own."""
    return lambda: Job(cluster, tmp_path_factory.mktemp("job"), t5_folder)


@pytest.fixture
def job(make_job: Callable[[], Job]) -> Iterator[Job]:
    """One that is off the cluster after the test."""
    job = make_job()
    yield job
    job.leave()


@pytest.fixture(scope="session")
def undisturbed(make_job: Callable[[], Job]) -> Job:
    """A job that has trained on two nodes from its beginning to its end."""
    job = make_job()
    job.submit("--nodes=2")
    job.wait_for_ranks(2)
    job.wait_for("COMPLETED")
    return job
