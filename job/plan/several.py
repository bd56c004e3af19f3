"""The same training on several GPUs: what each holds, how long the messages between them take, and the price of all."""

import math
from dataclasses import dataclass, replace

from job.plan.choose import PlanConstraints, PlanEstimate, Workload, choose
from job.plan.dimensions import ModelDimensions
from job.plan.gpu_catalogue import Gpu
from job.plan.memory import WIDTH, weights_bytes

GRADIENT_WIDTH = 4
"""Bytes of each number of an adapter's gradient, which is float32."""
GATHERINGS = 2
"""Times that a sharded block is gathered for a micro-batch: in the forward pass, and again in the backward pass."""
HOP_S, NETWORK_HOP_S = 10e-6, 50e-6
"""What each stage of a message takes beside its bytes: within a machine, and over a network."""


@dataclass(frozen=True)
class Fleet:
    """GPUs of one kind that train together."""

    machines: int = 1
    gpus_each: int = 1
    network_gbits: float = 10
    """Gbit/s between machines."""

    @property
    def gpus(self) -> int:
        return self.machines * self.gpus_each

    def __str__(self) -> str:
        return self.of("")

    def of(self, kind: str) -> str:
        """The GPUs by their number and kind: "4 L4", "2 x 4 L4, 10 Gbit/s"."""
        if self.machines == 1:
            return f"{self.gpus} {kind}".rstrip()
        return f"{self.machines} x {self.gpus_each} {kind}".rstrip() + f", {self.network_gbits:g} Gbit/s"


FLEETS = (Fleet(), Fleet(1, 2), Fleet(1, 4), Fleet(1, 8), Fleet(2, 4, 10), Fleet(2, 4, 100))
"""What a plan compares."""


def estimate_fleet(
    dimensions: ModelDimensions, gpu: Gpu, workload: Workload, constraints: PlanConstraints, fleet: Fleet
) -> PlanEstimate:
    """The fastest plan that fits each of these GPUs, with the speed, the hours and the price of all of them together.

    An effective batch is dealt to the GPUs, so that more of them than it has rows have nothing to do.
    """
    share = math.ceil(workload.effective_batch_size / fleet.gpus)
    micro_batch = min(constraints.micro_batch, share) if constraints.micro_batch else None
    dealt = replace(workload, effective_batch_size=share)
    one = choose(dimensions, gpu, dealt, replace(constraints, gpus=fleet.gpus, micro_batch=micro_batch))
    step_s = max(share / one.examples_per_s, _gathering_s(dimensions, one, fleet))
    step_s += message_s(GRADIENT_WIDTH * dimensions.adapter(workload.r), gpu, fleet)
    examples_per_s = workload.effective_batch_size / step_s
    price = None if gpu.price_usd_per_hour is None else gpu.price_usd_per_hour * fleet.gpus
    hours = workload.row_passes / examples_per_s / 3600
    return replace(one, gpu=replace(gpu, price_usd_per_hour=price), examples_per_s=examples_per_s, hours=hours)


def message_s(size: float, gpu: Gpu, fleet: Fleet) -> float:
    """Seconds until so many bytes are summed over all GPUs, in a ring: each of them passes twice over the slowest link."""
    others = fleet.gpus - 1
    hop = HOP_S if fleet.machines == 1 else NETWORK_HOP_S
    return 2 * others / fleet.gpus * size / _bytes_per_s(gpu, fleet) + 2 * others * hop


def _gathering_s(dimensions: ModelDimensions, one: PlanEstimate, fleet: Fleet) -> float:
    """Seconds a step that blocks of a sharded base take on their way; they travel while the block before them computes."""
    if one.plan.shards == 1:
        return 0.0
    blocks = weights_bytes(dimensions, one.plan.precision, "none") - dimensions.embeddings * WIDTH[one.plan.precision]
    missing = blocks * (fleet.gpus - 1) / fleet.gpus
    return GATHERINGS * one.accumulation * missing / _bytes_per_s(one.gpu, fleet)


def _bytes_per_s(gpu: Gpu, fleet: Fleet) -> float:
    """Of the slowest link between two neighbours."""
    network = math.inf if fleet.machines == 1 else fleet.network_gbits / 8
    return min(gpu.link_gb_per_s, network) * 1e9
