"""What machine this is."""

import os
import time
from dataclasses import dataclass

import torch

from job.errors import HardwareError, SettingsError

GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """The device that the job runs on."""

    device: str
    """"cuda" or "cpu"."""
    name: str
    memory_bytes: int
    capability: tuple[int, int] | None = None
    """Compute capability of the GPU."""

    @property
    def has_bf16(self) -> bool:
        """Whether the GPU multiplies bfloat16 in hardware."""
        return self.capability is not None and self.capability >= (8, 0)

    def describe(self) -> str:
        kind = f", compute capability {self.capability[0]}.{self.capability[1]}" if self.capability else ""
        return f"{self.name}, {self.memory_bytes / GIB:.1f} GiB{kind}"


def detect(device: str) -> Hardware:
    """The machine's GPU, or its CPU where there is none and `device` is "auto".

    Raises HardwareError if `device` is "cuda" and no usable GPU is there.
    """
    if device != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        hardware = Hardware("cuda", properties.name, properties.total_memory, (properties.major, properties.minor))
        _check_kernels(hardware)
        return hardware
    if device == "cuda":
        raise HardwareError(
            "DEVICE=cuda: no GPU is visible. Check that `nvidia-smi` works on the host, that the NVIDIA container toolkit is "
            "installed, and that the container was started with --gpus all (compose: docker-compose.yml, not the CPU file)."
        )
    return Hardware("cpu", f"CPU with {os.cpu_count()} cores", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _check_kernels(hardware: Hardware) -> None:
    """Raises HardwareError unless torch has kernels for the card: of its major capability and at most its minor one."""
    major, minor = hardware.capability
    kernels = [int(arch.removeprefix("sm_")) for arch in torch.cuda.get_arch_list() if arch.removeprefix("sm_").isdecimal()]
    if not any(number // 10 == major and number % 10 <= minor for number in kernels):
        raise HardwareError(f"{hardware.describe()}: this torch has kernels for {kernels} only. Use another GPU.")


def check_quantization(quantization: str, hardware: Hardware) -> None:
    """Raises SettingsError if `hardware` cannot compute with weights quantised like that."""
    if quantization == "int8" and hardware.device == "cpu":
        raise SettingsError("QUANTIZATION=int8 needs a GPU, none is here. Set QUANTIZATION=nf4 or none.")
    if quantization == "int8" and hardware.capability < (7, 5):
        raise SettingsError(
            f"QUANTIZATION=int8 needs compute capability 7.5, {hardware.name} has {'.'.join(map(str, hardware.capability))}. "
            "Set QUANTIZATION=nf4 or none."
        )


def choose_precision(precision: str, hardware: Hardware) -> str:
    """The type of the base model's weights: "fp32", "fp16" or "bf16". Raises SettingsError for one that this hardware lacks."""
    if precision == "bf16" and hardware.device == "cuda" and not hardware.has_bf16:
        raise SettingsError(f"PRECISION=bf16: {hardware.name} has no bfloat16 (compute capability 8.0). Set PRECISION=auto.")
    if precision == "auto" and hardware.device == "cpu":
        return "fp32"
    if precision == "auto":
        return "bf16" if hardware.has_bf16 else "fp16"
    return precision


def estimate_training_s(parameters: int, tokens: int) -> float:
    """Rough seconds that LoRA training on this CPU takes: 4 FLOPs a parameter and token at a third of its matmul rate."""
    size = 512
    matrix = torch.rand(size, size)
    matrix @ matrix
    started = time.perf_counter()
    for _ in range(10):
        matrix @ matrix
    flops_per_s = 10 * 2 * size**3 / (time.perf_counter() - started)
    return 4 * parameters * tokens / (flops_per_s / 3)
