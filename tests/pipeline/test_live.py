"""What a run takes while it is under way, and what of it is known."""

import pytest

from job.config.settings import Settings
from job.pipeline import live
from job.pipeline.live import describe_figures, live_figures
from job.pipeline.records import PlanRecord

PLAN = PlanRecord("m", "fp16", "none", 8, 0, price_usd_per_hour=2.0, seconds={"preparation": 900.0, "training": 900.0})


@pytest.fixture
def clock(monkeypatch):
    moment = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: moment[0])
    return moment


def test_the_cost_is_that_of_all_hours_at_the_price_that_is_set_or_the_catalogues(clock):
    of_catalogue, own = live_figures(Settings(), PLAN), live_figures(Settings(gpu_hourly_cost=6), PLAN)
    clock[0] += 1800
    assert of_catalogue() == {"cost_usd": 2.0}
    assert own() == {"cost_usd": 6.0}


def test_memory_and_load_are_the_drivers(clock, monkeypatch):
    monkeypatch.setattr(live, "gpu_memory_gib", lambda: (3.14159, 15.75))
    monkeypatch.setattr(live, "gpu_load", lambda: 0)
    found = live_figures(Settings(), PlanRecord("m", "fp16", "none", 8, 0))()
    assert found == {"gpu_memory_gib": (3.1, 15.8), "gpu_load_percent": 0}
    assert describe_figures(found) == "GPU 3.1 of 15.8 GiB, 0 % busy"


def test_what_is_not_known_is_not_said():
    assert describe_figures({}) == describe_figures({"gpu_memory_gib": None, "cost_usd": None}) == ""
    assert describe_figures({"gpu_memory_gib": [1, 2], "cost_usd": 0.129}) == "GPU 1.0 of 2.0 GiB, 0.13 USD so far"
