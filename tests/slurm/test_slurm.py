"""deploy/slurm on a real Slurm of two nodes: whatever happens to a job, its adapter is that of one left alone."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.slurm.cluster import wait_until
from tests.slurm.job import PATIENCE_S


def is_as(job, undisturbed) -> bool:
    """Whether a job is done, with the same adapter to the last bit."""
    return job.status()["state"] == "done" and torch.equal(job.adapter(), undisturbed.adapter())


def ended_with(job) -> tuple:
    return job.status()["state"], job.status()["exit_code"]


def set_node(cluster, state: str) -> None:
    cluster.ask("scontrol", "update", "NodeName=n2", f"State={state}", "Reason=test")


@pytest.fixture
def second_node(cluster) -> Iterator[Callable[[str], None]]:
    """Changes the state of node n2, which is as before after the test."""
    yield lambda state: set_node(cluster, state)
    if cluster.nodes("drain"):
        set_node(cluster, "RESUME")


def test_a_stop_seals_a_checkpoint_and_puts_the_job_back_into_the_queue(job, undisturbed):
    job.submit("--nodes=2")
    job.wait_for_a_checkpoint()
    job.cluster.ask("scancel", "--signal=TERM", job.number)
    job.wait_for("PENDING")
    assert ended_with(job) == ("failed", 143)
    job.start_again()
    job.wait_for("COMPLETED")
    assert job.tells("Restarts") == "1"
    assert is_as(job, undisturbed)


def test_a_killed_task_is_a_fault_that_another_start_makes_good(job, undisturbed):
    job.submit("--nodes=2")
    job.wait_for_a_checkpoint()
    os.kill(job.ranks()[1], signal.SIGKILL)
    job.wait_for("PENDING")
    assert ended_with(job) == ("failed", 138)
    job.start_again()
    job.wait_for("COMPLETED")
    assert is_as(job, undisturbed)


def test_a_job_whose_time_ends_is_stopped_before_and_goes_on_from_the_queue(job, undisturbed):
    """The signal is 60 to 90 s early. Until then a rank sleeps, so that no machine is too fast; Slurm wakes it."""
    job.submit("--nodes=2", "--signal=TERM@60")
    job.wait_for_a_checkpoint()
    os.kill(job.ranks()[1], signal.SIGSTOP)
    job.set_minutes_left(2)
    job.wait_for("PENDING")
    assert ended_with(job) == ("failed", 143)
    job.set_minutes_left(30)
    job.start_again()
    job.wait_for("COMPLETED")
    assert is_as(job, undisturbed)


def test_a_job_goes_on_with_the_nodes_that_are_left_when_one_is_drained(job, undisturbed, second_node):
    job.submit()
    job.wait_for_a_checkpoint()
    second_node("DRAIN")
    assert (job.tells("JobState"), job.tells("NumNodes")) == ("RUNNING", "2")
    job.cluster.ask("scancel", "--signal=TERM", job.number)
    job.start_again()
    job.wait_for("COMPLETED")
    assert job.tells("NodeList") == "n1"
    assert (job.adapter() - undisturbed.adapter()).norm() / undisturbed.adapter().norm() < 1e-5


def test_a_job_that_lost_a_node_waits_for_another_one(job, undisturbed, second_node):
    job.submit("--nodes=2")
    job.wait_for_a_checkpoint()
    second_node("DOWN")  # until its daemon answers
    job.start_again()
    job.wait_for("COMPLETED")
    assert is_as(job, undisturbed)


def test_a_job_that_a_more_urgent_one_displaces_seals_a_checkpoint_and_goes_on_after_it(job, undisturbed):
    job.submit("--nodes=2")
    job.wait_for_a_checkpoint()
    job.cluster.ask(
        "sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true", folder=job.folder
    )
    job.wait_for("PENDING")
    assert ended_with(job) == ("failed", 143)
    job.start_again()
    job.wait_for("COMPLETED")
    assert is_as(job, undisturbed)


def test_a_cancelled_job_seals_a_checkpoint_and_stays_cancelled(job):
    job.submit("--nodes=2")
    job.wait_for_a_checkpoint()
    job.cluster.ask("scancel", job.number)
    wait_until(lambda: not job.is_kept, PATIENCE_S, job.log)
    job.wait_for("CANCELLED")
    assert ended_with(job) == ("failed", 143)


def test_a_mistake_ends_the_job_with_its_own_code(job):
    """Which rank 0 told the other: else that would end with 138, and Slurm would have the choice."""
    job.submit("--nodes=2", TRAIN_DATA="missing.csv")
    job.wait_for("FAILED")
    assert (job.tells("ExitCode"), job.tells("Restarts")) == ("66:0", "0")
