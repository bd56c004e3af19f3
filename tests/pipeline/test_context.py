"""The clock of a run: seconds and joules of each stage, added up over interruptions."""

import errno
import logging
from dataclasses import replace

import pytest

from job.pipeline import context as module
from job.pipeline.context import timed, update_plan
from job.pipeline.records import PlanRecord
from job.pipeline.run_folder import RunFolder

PLAN = PlanRecord("demo", "fp32", "none", 8, 0, seconds={"preparation": 1.5})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path, tmp_path)
    PLAN.write(folder.plan)
    return folder


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The moments that the clock shows, one after another."""
    moments: list[float] = []
    monkeypatch.setattr(module.time, "perf_counter", lambda: moments.pop(0))
    return moments


@pytest.fixture
def meter(monkeypatch) -> list[float | None]:
    """What the GPU's meter shows, one after another."""
    readings: list[float | None] = []
    monkeypatch.setattr(module, "gpu_energy_j", lambda: readings.pop(0) if readings else None)
    return readings


def test_seconds_add_up_over_interruptions(folder, clock, meter):
    clock += [10, 13.25, 100, 101.5]
    with pytest.raises(KeyboardInterrupt), timed(folder, "training"):
        raise KeyboardInterrupt
    with timed(folder, "training"):
        pass
    assert PlanRecord.read(folder.plan) == replace(PLAN, seconds={"preparation": 1.5, "training": 3.2 + 1.5})


def test_joules_are_added_up_where_the_gpu_tells_them(folder, clock, meter):
    clock += [0, 1, 1, 2, 2, 3]
    meter += [1000.0, 1250.5, 2000.0, 2000.25, 3000.0, None]
    for _ in range(3):
        with timed(folder, "training"):
            pass
    assert PlanRecord.read(folder.plan).energy_j == {"training": pytest.approx(250.5 + 0.25, abs=0.06)}
    assert PlanRecord.read(folder.plan).seconds["training"] == 3


def test_a_stage_that_took_long_is_logged_when_it_is_through_and_only_then(folder, clock, meter, caplog):
    caplog.set_level(logging.INFO)
    clock += [0, 3723.4, 0, 5]
    with timed(folder, "training"):
        pass
    with pytest.raises(ValueError, match="no"), timed(folder, "evaluation"):
        raise ValueError("no")
    assert caplog.messages == ["training took 1:02:03"]


def test_what_failed_inside_is_raised_and_not_that_nothing_could_be_written(folder, monkeypatch):
    def full(self, path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PlanRecord, "write", full)
    with pytest.raises(ValueError, match="what failed"), timed(folder, "training"):
        raise ValueError("what failed")


def test_before_there_is_a_plan_nothing_is_made(tmp_path):
    with pytest.raises(ValueError, match="no rows"), timed(RunFolder(tmp_path, tmp_path), "preparation"):
        raise ValueError("no rows")
    assert list(tmp_path.iterdir()) == []


def test_the_seconds_of_the_preparation_that_makes_the_plan_are_in_it(tmp_path, clock, meter):
    clock += [5, 7]
    folder = RunFolder(tmp_path, tmp_path)
    with timed(folder, "preparation"):
        PlanRecord("demo", "fp32", "none", 8, 0).write(folder.plan)
    assert PlanRecord.read(folder.plan).seconds == {"preparation": 2}


def test_some_fields_of_the_plan_are_replaced_and_the_others_stay(folder):
    update_plan(folder, micro_batch=2, padding_free=True)
    assert PlanRecord.read(folder.plan) == replace(PLAN, micro_batch=2, padding_free=True)


def test_each_stage_has_a_peak_of_its_own_and_a_resumed_one_keeps_the_largest(folder, clock, meter, monkeypatch):
    clock += [0, 1] * 3
    peaks, begun = iter([(2.0, 1.5), (8.0, 7.25), (6.0, 5.0)]), []
    monkeypatch.setattr(module, "peak_memory_gib", lambda: next(peaks))
    monkeypatch.setattr(module, "reset_peak_memory", lambda: begun.append(1))
    for stage in ("check", "training", "training"):
        with timed(folder, stage):
            pass
    plan = PlanRecord.read(folder.plan)
    assert plan.peak_gib == {"check": 2.0, "training": 8.0}
    assert plan.peak_allocated_gib == {"check": 1.5, "training": 7.25}
    assert len(begun) == 3
