"""What `doctor` makes of what several ranks find."""

import pytest

from job.config.settings import Settings
from job.errors import HardwareError
from job.pipeline import together as module
from job.pipeline.together import TOGETHER, CheckResult, together
from job.system.ranks import Ranks


def say(name: str) -> str:
    return TOGETHER[name](Settings(device="cpu"), Ranks(0, 4))


def test_a_card_that_is_much_slower_than_the_others_is_named(monkeypatch):
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [100.0, 98.0, 40.0, 99.0])
    assert say("cards") == "40 to 100 TFLOPS; slow are ranks 2, all wait for them: nvidia-smi -q -d PERFORMANCE, CLOCK"
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [100.0, 98.0, 97.0, 99.0])
    assert say("cards") == "97 to 100 TFLOPS"


def test_the_time_of_a_gradient_follows_from_the_rate(monkeypatch):
    """73,728 numbers of 4 bytes; of four ranks each passes 1.5 times that: 442 kB at 1 MB/s."""
    monkeypatch.setattr(module, "link_bytes_per_s", lambda ranks, device: 1e6)
    assert say("link") == "0.001 GB/s each way; the adapter's gradient, 0.295 MB, takes 442 ms a step"


@pytest.mark.parametrize(("difference", "advice"), [(0.01, False), (7, True)])
def test_clocks_that_mislead_are_told(monkeypatch, difference, advice):
    monkeypatch.setattr(module, "clock_difference_s", lambda ranks: difference)
    assert ("NTP" in say("clocks")) is advice


def test_a_folder_that_not_all_see_is_no_failure_but_told(monkeypatch):
    monkeypatch.setattr(module, "ranks_that_see", lambda folder, ranks: [0, 1])
    assert say("shared folder") == "output is not shared with ranks 2, 3: fine, as long as machine 0 stays machine 0"


def test_what_the_ranks_found_is_counted_and_failures_name_their_ranks():
    fine, slow = CheckResult("machine", "V100"), CheckResult("machine", "T4")
    assert together([fine]) == fine
    assert together([fine, slow, fine]).detail == "2 x V100, 1 x T4"
    error = HardwareError("no GPU.")
    broken = CheckResult("machine", "no GPU.", error)
    assert together([fine, broken, broken]) == CheckResult("machine", "rank 1, 2: no GPU.", error)
    assert together([fine, None, None]) == fine
