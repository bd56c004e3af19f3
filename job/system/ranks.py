"""The processes of one run: which of them this is, and what they say to each other."""

import functools
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

WAIT = timedelta(hours=12)
"""How long the others wait for rank 0, which tokenises alone, and for each other."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The processes of one run, a GPU each; one alone needs no launcher."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among the processes of this machine: the number of its GPU."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, publishes and reports."""
        return self.rank == 0

    def join(self, device: str) -> None:
        """Meets the other processes. Every rank calls this once, before anything else here."""
        if self.world_size > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=WAIT)

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over the ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Value) -> list[Value]:
        """The value of each rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value) -> Value:
        """The value of rank 0."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]


@functools.cache
def this_rank() -> Ranks:
    """The rank of this process, as a launcher tells it in RANK, WORLD_SIZE and LOCAL_RANK."""
    rank, world_size, local_rank = (
        int(os.environ.get(name, usual)) for name, usual in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return Ranks(rank, world_size, local_rank)
