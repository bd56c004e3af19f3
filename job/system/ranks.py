"""The processes of one run: which of them this is, and what they say to each other."""

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from job.errors import Transient, first_line

WAIT = timedelta(hours=12)
"""How long the others wait for rank 0, which tokenises alone, and for each other."""
PEER_IS_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL", "Socket", "Store")
"""Signs of it in the RuntimeErrors that torch raises then."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The processes of one run, one per GPU; a run of one process needs no launcher."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among the processes of this machine: the number of its GPU."""

    def __str__(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"

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
            store, rank, world_size = next(iter(dist.rendezvous("env://", timeout=timedelta(minutes=minutes))))
            store.set_timeout(WAIT)
            backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=WAIT)
        except (dist.DistError, RuntimeError, TimeoutError) as error:
            raise Transient(
                f"{self}: not all of the {self.world_size} processes of this run came within {minutes:g} minutes "
                f"({first_line(error)}). Check that every node was started, and run the same command again."
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

    def lost_peer(self, error: BaseException) -> Transient | None:
        """What `error` means if another process of this run is gone."""
        if self.world_size == 1 or isinstance(error, Transient):
            return None
        if isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and any(sign in str(error) for sign in PEER_IS_LOST)
        ):
            return Transient(
                f"{self}: another process of this run ended ({first_line(error)}). Run the same command again to resume."
            )
        return None


@functools.cache
def this_rank() -> Ranks:
    """The rank of this process, as a launcher says it in RANK, WORLD_SIZE and LOCAL_RANK."""
    return Ranks(*(int(os.environ.get(name, usual)) for name, usual in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))))
