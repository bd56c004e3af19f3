"""The processes of one run: which of them this is, and what they say to each other."""

import atexit
import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from job.errors import JobError, Transient, first_line
from job.system.failures import from_text, name_of, to_text
from job.system.network import INTERFACE, announce_reachable_address, notice_lost_machines

WAIT = timedelta(hours=12)
"""How long the others wait for rank 0, which tokenises alone, and for each other."""
LEAST_MINUTES, GLOO_TRIES = 1, 5
"""For processes that have met in the store to connect: gloo begins so often, each time with all the time that it was given."""
PEER_IS_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL", "Socket", "Store")
"""Signs of it in the RuntimeErrors that torch raises then."""
FAILURE, TOLD = "failure", "told"
"""What the store that the processes met in holds of a failed run: the first failure, and how many of them know of one."""
LISTEN_S, POLL_S = 5, 0.05
"""How long rank 0, which the store ends with, waits for the others to read it."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The processes of one run, one per GPU; a run of one process needs no launcher."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among the processes of this machine: the number of its GPU."""

    def __str__(self) -> str:
        return name_of(self.rank)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reads and writes the run's folder."""
        return self.rank == 0

    def join(self, device: str, minutes: float = 30) -> None:
        """Meets the other processes; its GPU is this process's from now on. Every rank calls this before anything else here.

        device: "cuda" or "cpu". Raises Transient if not all of them come within so many minutes.
        """
        if device == "cuda":
            torch.cuda.set_device(self.local_rank)
        if self.world_size == 1 or dist.is_initialized():
            return
        try:
            announce_reachable_address(os.environ.get("MASTER_ADDR", ""))
            store, rank, world_size = next(iter(dist.rendezvous("env://", timeout=timedelta(minutes=minutes))))
            store.set_timeout(WAIT)
            backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
            connecting = timedelta(minutes=max(LEAST_MINUTES, minutes / GLOO_TRIES))
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=connecting)
            dist.distributed_c10d._set_pg_timeout(WAIT)
            notice_lost_machines()
            dist.all_reduce(torch.zeros(1))  # one that fails at once would else be gone while others still connect with it
            atexit.register(_leave, self)
        except (dist.DistError, RuntimeError, TimeoutError) as error:
            what = "Check that every node was started"
            if "connectFullMesh" in str(error) and int(os.environ.get("LOCAL_WORLD_SIZE", self.world_size)) < self.world_size:
                what = f"If all were started, set {INTERFACE} to the network interface by which they reach each other"
            raise Transient(
                f"{self}: not all of the {self.world_size} processes of this run came within {minutes:g} minutes "
                f"({first_line(error)}). {what}, and run the same command again."
            ) from error

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over the ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Value) -> list[Value]:
        """The value of each rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value) -> Value:
        """The value of rank 0."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def from_main(self, compute: Callable[[], Value]) -> Value:
        """What rank 0 computes; the others only wait for it."""
        value: Any = compute() if self.is_main else None
        return self.broadcast(value)

    def share(self, lengths: Sequence[int]) -> list[int]:
        """The rows that are this rank's, of rows of such lengths: as many for each rank, so that some rows may be on two."""
        rows = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
        rows += rows[: -len(rows) % self.world_size]
        return rows[self.rank :: self.world_size]

    def collect(self, found: Mapping[int, Value]) -> list[Value]:
        """What the ranks found for their shares, in the order of all rows, on every rank."""
        together = {row: value for part in self.gather(dict(found)) for row, value in part.items()}
        return [together[row] for row in range(len(together))]

    def tell_failure(self, error: BaseException) -> None:
        """Leaves for the others what this one failed with by itself; the first failure of a run stays."""
        if dist.is_initialized():
            with contextlib.suppress(RuntimeError):  # the store is gone with rank 0
                _store().compare_set(FAILURE, "", to_text(error, self.rank))
                _store().add(TOLD, 1)

    def lost_peer(self, error: BaseException) -> JobError | None:
        """What `error` means if another process of this run is gone: what that one failed with, where it could say so."""
        if self.world_size == 1 or isinstance(error, Transient):
            return None
        if isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and any(sign in str(error) for sign in PEER_IS_LOST)
        ):
            return _told_failure() or Transient(
                f"{self}: another process of this run ended ({first_line(error)}). Run the same command again to resume."
            )
        return None


def _store() -> dist.Store:
    """Where the processes of this run met; it is in the process of rank 0, or of a launcher such as torchrun."""
    return dist.distributed_c10d._get_default_store()


def _told_failure() -> JobError | None:
    """What the first process that failed by itself told."""
    with contextlib.suppress(RuntimeError):
        if dist.is_initialized() and _store().check([FAILURE]):
            failure = from_text(_store().get(FAILURE))
            _store().add(TOLD, 1)
            return failure
    return None


def _leave(ranks: Ranks) -> None:
    """Called as this process ends: gloo's threads, left running, now and then abort a process that has done all its work.

    The others notice it. Rank 0 then stays until they know why.
    """
    if dist.is_initialized():
        store = _store()
        dist.destroy_process_group()
        with contextlib.suppress(RuntimeError):
            end = time.monotonic() + (LISTEN_S if ranks.is_main and store.check([FAILURE]) else 0)
            while time.monotonic() < end and store.add(TOLD, 0) < ranks.world_size:
                time.sleep(POLL_S)


@functools.cache
def this_rank() -> Ranks:
    """The rank of this process, as a launcher says it in RANK, WORLD_SIZE and LOCAL_RANK; of a world of one it is the first."""
    rank, world_size, local_rank = (
        int(os.environ.get(name, usual)) for name, usual in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return Ranks(rank if world_size > 1 else 0, world_size, local_rank)
