"""What the processes of one run find out about each other: how fast they talk and compute, their clocks, the folders they share."""

import secrets
import time
from pathlib import Path

import torch

from job.system.ranks import Ranks

MESSAGE_BYTES, REPEATS = 64 * 2**20, 3
SIZE = {"cuda": 8192, "cpu": 512}
"""Rows and columns of the matrices whose product is timed."""


def link_bytes_per_s(ranks: Ranks, device: str, size: int = MESSAGE_BYTES) -> float:
    """What passes each rank's link, each way, while numbers are summed over all of them in a ring: the best of a few sums."""
    numbers, seconds = torch.zeros(size // 4, device=device), []
    for _ in range(1 + REPEATS):  # the first one opens the connections
        ranks.sum(torch.zeros(1, device=device))
        _wait_for(device)
        started = time.perf_counter()
        ranks.sum(numbers)
        _wait_for(device)
        seconds.append(time.perf_counter() - started)
    slowest = max(ranks.gather(min(seconds[1:])))
    return 2 * (ranks.world_size - 1) / ranks.world_size * size / slowest


def clock_difference_s(ranks: Ranks) -> float:
    """Seconds between the most advanced clock of the ranks and the one that is furthest behind, as read right after a message."""
    found = []
    for _ in range(REPEATS):
        ranks.sum(torch.zeros(1))
        times = ranks.gather(time.time())
        found.append(max(times) - min(times))
    return min(found)


def flops_per_s(device: str, dtype: torch.dtype) -> float:
    """How fast this rank's device multiplies matrices of that type, now."""
    size = SIZE[device]
    matrix, seconds = torch.ones(size, size, device=device, dtype=dtype), []
    for _ in range(1 + REPEATS):
        _wait_for(device)
        started = time.perf_counter()
        matrix @ matrix
        _wait_for(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def ranks_that_see(folder: Path, ranks: Ranks) -> list[int]:
    """The ranks for which `folder` is that of rank 0, which can write there."""
    name = ranks.broadcast(f".seen-by-all-{secrets.token_hex(8)}")
    mark = folder / name
    ranks.from_main(mark.touch)
    seen = ranks.gather(mark.exists())
    ranks.from_main(mark.unlink)
    return [rank for rank, sees in enumerate(seen) if sees]


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
