"""What processes of a run say to each other, with two of them; and what one alone does without any."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from job.errors import Transient
from job.system.ranks import Ranks, this_rank
from tests.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HOST = socket.gethostname()
LENGTHS = [3, 9, 1, 9, 4, 7, 2]


def run_two(code: str, started: tuple[int, ...] = (0, 1), world_size: int = 2) -> list[tuple[int, str]]:
    """Exit code and output of each process that runs `code`, of a run of so many of which some may never come."""
    program = f"import json, sys, torch\nfrom job.system.ranks import Ranks, this_rank\nranks = this_rank()\n{code}"
    shared = os.environ | {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in started
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[0] for process in processes]
    own = ["".join(line for line in text.splitlines(keepends=True) if not line.startswith("[Gloo]")) for text in said]
    return [(process.returncode, text) for process, text in zip(processes, own, strict=True)]


@pytest.fixture
def rank_of_environment(monkeypatch):
    """`this_rank`, which asks but once in a process."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    this_rank.cache_clear()
    yield this_rank
    this_rank.cache_clear()


def test_a_process_that_nobody_launched_is_the_only_one(rank_of_environment):
    assert rank_of_environment() == Ranks(0, 1, 0)
    assert rank_of_environment().is_main


def test_a_launcher_says_which_rank_this_is(rank_of_environment, monkeypatch):
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    ranks = rank_of_environment()
    assert (ranks.rank, ranks.world_size, ranks.local_rank, ranks.is_main) == (5, 8, 1, False)
    assert str(ranks) == f"rank 5 on {HOST}"


def test_a_process_that_was_launched_to_work_alone_is_the_first_on_its_own_gpu(rank_of_environment, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert rank_of_environment() == Ranks(0, 1, 1)


def test_one_process_says_nothing_to_anyone():
    ranks, tensor = Ranks(), torch.tensor([1.0, 2.0])
    ranks.join("cpu")
    assert not dist.is_initialized()
    assert ranks.sum(tensor) is tensor
    assert (ranks.gather("a"), ranks.broadcast("a"), ranks.from_main(lambda: "a")) == (["a"], "a", "a")
    assert sorted(ranks.share(LENGTHS)) == list(range(7))
    assert ranks.collect({2: "c", 0: "a", 1: "b"}) == ["a", "b", "c"]
    assert ranks.lost_peer(RuntimeError("gloo: Connection closed by peer")) is None


def test_a_process_leaves_the_group_before_it_ends():
    """What is registered first is called last."""
    code = (
        "import atexit\nfrom torch import distributed as dist\n"
        "atexit.register(lambda: print(dist.is_initialized()))\nranks.join('cpu')\nprint(dist.is_initialized())"
    )
    assert run_two(code) == [(0, "True\nFalse\n")] * 2


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
def test_shares_are_all_rows_as_many_for_each_rank_and_about_as_many_tokens(world_size):
    shares = [Ranks(rank, world_size).share(LENGTHS) for rank in range(world_size)]
    assert set().union(*shares) == set(range(len(LENGTHS)))
    assert {len(share) for share in shares} == {-(-len(LENGTHS) // world_size)}
    assert sum(map(len, shares)) - len(LENGTHS) < world_size, "no more rows twice than that takes"
    tokens = [sum(LENGTHS[row] for row in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(LENGTHS)
    lengths = [[LENGTHS[row] for row in share[: len(LENGTHS) // world_size]] for share in shares]
    assert all(one == sorted(one, reverse=True) for one in lengths), "the longest first, so that too little memory shows at once"


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError("[../third_party/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4"), True),
        (RuntimeError("NCCL error: remote process exited"), True),
        (dist.DistNetworkError("the server is gone"), True),
        (dist.DistStoreError("wait timeout"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (ValueError("gloo"), False),
        (Transient("the hub has trouble with its Socket"), False),
    ],
)
def test_the_loss_of_a_peer_is_told_from_other_errors(error, is_one):
    found = Ranks(1, 2, 1).lost_peer(error)
    assert isinstance(found, Transient) is is_one
    if is_one:
        assert str(found).startswith(f"rank 1 on {HOST}: another process of this run ended (")
        assert str(found).endswith("). Run the same command again to resume.")
        assert "\n" not in str(found)


TALK = """
torch.set_num_threads(1)
ranks.join("cpu")
ranks.join("cpu")  # a second time does nothing
total = ranks.sum(torch.tensor([1.0, ranks.rank]))
lengths = [3, 9, 1, 9, 4]
calls = []
print(json.dumps({
    "sum": total.tolist(), "gather": ranks.gather({"rank": ranks.rank}), "broadcast": ranks.broadcast(["from", ranks.rank]),
    "from_main": ranks.from_main(lambda: calls.append(ranks.rank) or "computed"), "calls": calls,
    "collect": ranks.collect({row: f"row {row}" for row in ranks.share(lengths)}), "share": ranks.share(lengths),
}))
"""


def test_two_processes_sum_gather_broadcast_and_collect_alike():
    first, second = ((code, json.loads(said)) for code, said in run_two(TALK))
    assert (first[0], second[0]) == (0, 0)
    for name, expected in {
        "sum": [2, 1], "gather": [{"rank": 0}, {"rank": 1}], "broadcast": ["from", 0], "from_main": "computed",
        "collect": [f"row {row}" for row in range(5)],
    }.items():  # fmt: skip
        assert first[1][name] == second[1][name] == expected
    assert (first[1]["calls"], second[1]["calls"]) == ([0], [])
    assert {*first[1]["share"], *second[1]["share"]} == set(range(5))


LOSES = """
import os
ranks.join("cpu")
if ranks.rank == 1:
    os._exit(3)
try:
    {call}
except Exception as error:
    print(ranks.lost_peer(error))
    os._exit(138)
"""


@pytest.mark.parametrize("call", ["ranks.gather(1)", "ranks.sum(torch.ones(3))"])
def test_a_process_whose_peer_is_gone_knows_it(call):
    (code, said), (other, _) = run_two(LOSES.format(call=call))
    assert (code, other) == (138, 3)
    assert said.startswith(f"rank 0 on {HOST}: another process of this run ended (")
    assert said.count("\n") == 1


TELLS = """
from job.errors import *
ranks.join("cpu")
try:
    if ranks.rank == {first}:
        raise DiskFull("HF_HOME: full. Free some.")
    ranks.gather(1)
except Exception as error:
    found = ranks.lost_peer(error)
    if not found:
        ranks.tell_failure(error)
    print(found or error)
    sys.exit((found or error).exit_code)
"""


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_others_end_with_what_the_first_failed_with_by_itself(first):
    ended = run_two(TELLS.format(first=first), started=(0, 1, 2), world_size=3)
    own, told = "HF_HOME: full. Free some.\n", f"rank {first} on {HOST}: HF_HOME: full. Free some.\n"
    assert ended == [(74, own if rank == first else told) for rank in range(3)]


def test_rank_0_waits_for_readers_only_where_one_failed():
    """The store ends with it; one that was killed reads nothing."""
    code = "import time, atexit\nranks.join('cpu')\nif ranks.rank == 1: import os; os._exit(3)\nstarted = time.monotonic()\n"
    code += "from torch import distributed\n{}from job.system.ranks import _leave\n_leave(ranks)\nprint(time.monotonic() - started)"
    (_, quick), _ = run_two(code.format(""))
    (_, slow), _ = run_two(code.format("from job.errors import DiskFull\nranks.tell_failure(DiskFull('full.'))\n"))
    assert float(quick) < 3
    assert 4.9 < float(slow) < 8


def test_the_first_failure_that_is_told_stays():
    code = "from job.errors import *\nranks.join('cpu')\nfor code in range(ranks.rank): ranks.gather(0)\n"
    code = "from job.errors import *\nfrom job.system.ranks import _told_failure\nranks.join('cpu')\n"
    code += "if ranks.rank == 0: ranks.tell_failure(DataError('row 3.'))\nranks.gather(0)\n"
    code += "if ranks.rank == 1: ranks.tell_failure(DiskFull('full.'))\nranks.gather(0)\nprint(_told_failure())"
    assert run_two(code) == [(0, f"rank 0 on {HOST}: row 3.\n")] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_never_comes_is_told_in_one_line_after_the_time_limit(rank):
    code = "from job.errors import Transient\ntry: ranks.join('cpu', minutes=0.02)\n"
    code += "except Transient as error: print(error); sys.exit(138)"
    ((exit_code, said),) = run_two(code, started=(rank,))
    assert exit_code == 138
    assert said.startswith(f"rank {rank} on {HOST}: not all of the 2 processes of this run came within 0.02 minutes (")
    assert said.endswith("). Check that every node was started, and run the same command again.\n")
    assert said.count("\n") == 1
