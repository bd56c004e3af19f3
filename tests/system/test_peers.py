"""What two processes find out about each other, against clocks and folders that are made to differ."""

import json

import pytest
import torch

from job.system import peers
from job.system.peers import flops_per_s, link_bytes_per_s, ranks_that_see
from job.system.ranks import Ranks
from tests.system.test_ranks import run_two

pytestmark = pytest.mark.slow
BEGIN = "import time\nfrom pathlib import Path\nfrom job.system import peers\nranks.join('cpu')\n"


def told_by_both(code: str) -> list:
    ended = run_two(BEGIN + code)
    assert [exit_code for exit_code, _ in ended] == [0, 0]
    return [json.loads(said) for _, said in ended]


def test_clocks_that_are_an_hour_apart_are_found():
    late = "now = time.time\npeers.time.time = lambda: now() + 3600 * ranks.rank\n"
    found = told_by_both(late + "print(json.dumps(peers.clock_difference_s(ranks)))")
    assert found == [pytest.approx(3600, abs=5)] * 2


def test_the_rate_of_a_link_that_takes_a_tenth_of_a_second_for_a_megabyte_is_told_by_both():
    """Over two ranks, each passes a message once each way: 2 * (2 - 1) / 2 times its bytes."""
    slow = (
        "total = Ranks.sum\n"
        "def slowly(self, tensor):\n"
        "    time.sleep(0.1 if tensor.numel() > 1 else 0)\n"
        "    return total(self, tensor)\n"
        "Ranks.sum = slowly\n"
    )
    found = told_by_both(slow + "print(json.dumps(peers.link_bytes_per_s(ranks, 'cpu', 2**20)))")
    assert found[0] == found[1] == pytest.approx(2**20 / 0.1, rel=0.5)


def test_a_folder_that_only_rank_0_sees_is_found_and_left_clean(tmp_path):
    code = "print(json.dumps(peers.ranks_that_see(Path({!r}), ranks)))"
    assert told_by_both(code.format(str(tmp_path))) == [[0, 1]] * 2
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    own = f"print(json.dumps(peers.ranks_that_see(Path({str(tmp_path)!r}, str(ranks.rank)), ranks)))"
    assert told_by_both(own) == [[0]] * 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "1"]


def test_the_speed_of_a_product_is_its_flops_by_its_shortest_time(monkeypatch):
    """Two 512 x 512 matrices: 2 * 512^3 FLOPs."""
    times = iter([0, 9, 10, 12, 20, 21, 30, 34])
    monkeypatch.setattr(peers.time, "perf_counter", lambda: next(times))
    assert flops_per_s("cpu", torch.float32) == 2 * 512**3 / 1


def test_one_alone_sees_its_own_folder(tmp_path):
    assert ranks_that_see(tmp_path, Ranks()) == [0]
    assert link_bytes_per_s(Ranks(), "cpu", 4096) == 0, "nothing passes"
