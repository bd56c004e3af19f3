"""The GPUs that a plan compares, from `gpus.toml`."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

CATALOGUE = Path(__file__).parent / "gpus.toml"
BF16 = (8, 0)
"""Compute capability from which on a GPU multiplies bfloat16."""


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU, or the one in this machine."""

    name: str
    memory_gib: float
    capability: tuple[int, int]
    dense_tflops: dict[str, float]
    """By type of the weights; no entry where the card does not multiply that type."""
    mfu: float
    """Share of the dense rate that training is expected to reach."""
    memory_gb_per_s: float
    """What its kernels can read and write in its memory."""
    price_usd_per_hour: float | None = None
    link: str = "PCIe"
    """What the cards of one machine are joined by."""
    link_gb_per_s: float = 10
    """What a sum over them passes through it, each way."""
    kind: str = ""
    """Name of the catalogue's entry that the rates are from."""
    speed: float | None = None
    """How much faster than expected an earlier run was on this kind, None if there was none."""

    @property
    def precision(self) -> str:
        """The type that this card trains in: bfloat16 where it has it."""
        return "bf16" if self.capability >= BF16 else "fp16"


def read_catalogue(path: Path = CATALOGUE) -> dict[str, Gpu]:
    """All entries, by name."""
    entries = tomllib.loads(path.read_text())
    return {name: Gpu(name, **entry | {"capability": tuple(entry["capability"]), "kind": name}) for name, entry in entries.items()}


def closest_gpu(name: str, memory_gib: float, capability: tuple[int, int]) -> Gpu:
    """The GPU in a machine: rates and price of the catalogue's entry that is nearest to it, one with bfloat16 if it has that."""

    def distance(gpu: Gpu) -> tuple[bool, bool, float]:
        return gpu.capability != capability, (gpu.capability >= BF16) != (capability >= BF16), abs(gpu.memory_gib - memory_gib)

    nearest = min(read_catalogue().values(), key=distance)
    known = nearest.name.partition("-")[0] in name.replace("-", " ").split()
    price = nearest.price_usd_per_hour if known else None
    return replace(nearest, name=name, memory_gib=memory_gib, capability=capability, price_usd_per_hour=price)
