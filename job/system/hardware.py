"""What machine this is."""

import functools
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pynvml
import torch

from job.errors import HardwareError, SettingsError, first_line
from job.system.onednn import linear
from job.system.quick_bitsandbytes import bitsandbytes
from job.system.ranks import this_rank

GIB = 2**30
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
OWN_BYTES = GIB
"""What the driver and a process's CUDA context take at the most, beside tensors."""
GPU_DEVICE = Path("/dev/nvidia0")
"""What the driver makes for the first GPU, also inside a container that was given it."""
TOLERANCE = 0.05
"""Relative error that half precision may have in `check_computes`; a wrong kernel is off by its whole size."""

LEAST_GAIN, LEAST_WIDTH = 1.5, 256
"""What bfloat16 must gain on a CPU to be chosen, and the model's width below which overheads, not products, take the time."""


@dataclass(frozen=True)
class Hardware:
    """The device that the job runs on."""

    device: str
    """"cuda" or "cpu"."""
    name: str
    memory_bytes: int
    capability: tuple[int, int] = (0, 0)
    """Compute capability of the GPU; (0, 0) of a CPU."""
    taken_bytes: int = 0
    """Of the GPU's memory, by other processes."""

    @property
    def free_bytes(self) -> int:
        """What a plan may fill."""
        return self.memory_bytes - self.taken_bytes

    @property
    def has_bf16(self) -> bool:
        """Whether the GPU multiplies bfloat16 in hardware."""
        return self.capability >= (8, 0)

    def describe(self) -> str:
        kind = f", compute capability {self.capability[0]}.{self.capability[1]}" if self.device == "cuda" else ""
        taken = f", {self.taken_bytes / GIB:.1f} of them taken by other processes" if self.taken_bytes else ""
        return f"{self.name}, {self.memory_bytes / GIB:.1f} GiB{taken}{kind}"


def detect(device: str) -> Hardware:
    """The machine's GPU, or its CPU where there is none and `device` is "auto".

    Raises HardwareError if `device` is "cuda" and no usable GPU is there.
    """
    if device != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(this_rank().local_rank)
        hardware = Hardware("cuda", properties.name, properties.total_memory, (properties.major, properties.minor))
        _check_kernels(hardware)
        return replace(hardware, taken_bytes=_taken_by_others())
    if device == "auto" and GPU_DEVICE.exists():
        raise HardwareError(
            f"There is a GPU ({GPU_DEVICE}), but torch {torch.__version__} cannot use it: its driver is too old or not responding. "
            f"Install a driver for CUDA {torch.version.cuda or '12.8'} or newer (570 or newer); DEVICE=cpu trains without the GPU."
        )
    if device == "cuda":
        raise HardwareError(
            "DEVICE=cuda: no GPU is visible. Check that `nvidia-smi` works on the host, that the NVIDIA container toolkit is "
            "installed, and that the container was started with --gpus all (compose: docker-compose.yml, not the CPU file)."
        )
    return Hardware("cpu", f"CPU with {os.cpu_count()} cores", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _taken_by_others() -> int:
    """What other processes hold of this one's GPU; 0 where that may as well be the driver's, or this process's own."""
    free_bytes, total_bytes = torch.cuda.mem_get_info(this_rank().local_rank)
    taken = total_bytes - free_bytes - torch.cuda.memory_reserved(this_rank().local_rank)
    return taken if taken > OWN_BYTES else 0


def _check_kernels(hardware: Hardware) -> None:
    """Raises HardwareError unless torch has kernels for the card: of its major capability and at most its minor one."""
    major, minor = hardware.capability
    kernels = [int(arch.removeprefix("sm_")) for arch in torch.cuda.get_arch_list() if arch.removeprefix("sm_").isdecimal()]
    if not any(number // 10 == major and number % 10 <= minor for number in kernels):
        raise HardwareError(f"{hardware.describe()}: this torch has kernels for {kernels} only. Use another GPU.")


def check_computes(hardware: Hardware, dtype: torch.dtype, int8: bool = False) -> None:
    """Tries what a step is made of on the GPU itself: a product, attention with a bias, NF4 (and int8), forward and backward.

    Nothing to do on a CPU. Raises HardwareError where one fails or is far from float32, as with a wrong driver or image.
    """
    if hardware.device == "cpu":
        return
    torch.manual_seed(0)
    computations = {"a matrix product": _product, "attention": _attention, "NF4": _nf4} | ({"int8": _int8} if int8 else {})
    for name, compute in computations.items():
        try:
            found, expected = compute(dtype, hardware.device)
        except RuntimeError as error:
            raise HardwareError(
                f"{hardware.describe()}: {name} in {dtype} fails: {first_line(error)}. Check driver and image."
            ) from error
        if not (found.float() - expected).norm() < TOLERANCE * expected.norm():
            raise HardwareError(f"{hardware.describe()}: {name} in {dtype} is wrong. Update the driver, or try another GPU.")


def _product(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    left, right = (torch.randn(64, 64, device=device) for _ in range(2))
    return left.to(dtype) @ right.to(dtype), left @ right


def _attention(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of attention with T5's kind of bias, added before the softmax."""
    query, bias = torch.randn(1, 2, 16, 64, device=device), torch.randn(1, 2, 16, 16, device=device)
    gradients = []
    for kind in (dtype, torch.float32):
        leaf = query.to(kind).requires_grad_()
        torch.nn.functional.scaled_dot_product_attention(leaf, leaf, leaf, attn_mask=bias.to(kind)).sum().backward()
        gradients.append(_gradient(leaf))
    return gradients[0], gradients[1]


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    if leaf.grad is None:
        raise RuntimeError("no gradient was computed")
    return leaf.grad


def _nf4(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient through an NF4 layer, against the product with its dequantised weights."""
    quantise, dequantise = bitsandbytes.functional.quantize_4bit, bitsandbytes.functional.dequantize_4bit
    weights, state = quantise(torch.randn(64, 64, device=device, dtype=dtype), quant_type="nf4")
    leaf = torch.randn(16, 64, device=device, dtype=dtype, requires_grad=True)
    bitsandbytes.matmul_4bit(leaf, weights.t(), quant_state=state).sum().backward()
    return _gradient(leaf), torch.ones(16, 64, device=device) @ dequantise(weights, state).float()


def _int8(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient through an int8 layer, against the product with the weights that were quantised."""
    layer = bitsandbytes.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False)
    weights = torch.randn(64, 64)
    layer.weight = bitsandbytes.nn.Int8Params(weights.half(), requires_grad=False, has_fp16_weights=False)
    leaf = torch.randn(16, 64, device=device, dtype=dtype, requires_grad=True)
    layer.to(device)(leaf).sum().backward()
    return _gradient(leaf), torch.ones(16, 64, device=device) @ weights.to(device)


def free_memory() -> None:
    """Gives back what is no longer used, such as what an out-of-memory error left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Begins a new peak of the GPU's memory, which nothing that is no longer used counts into."""
    if _has_used_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory_gib() -> tuple[float, float] | None:
    """What torch had of the GPU at the most since the peak was reset, and what of it was tensors; None where it has no GPU."""
    if not _has_used_gpu():
        return None
    return torch.cuda.max_memory_reserved() / GIB, torch.cuda.max_memory_allocated() / GIB


def _has_used_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def gpu_energy_j() -> float | None:
    """Joules that the GPU has used since its driver was loaded; None where NVML does not report them."""
    return _ask_driver(lambda gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000)


def gpu_memory_gib() -> tuple[float, float] | None:
    """GiB of the GPU that are in use, by anybody, and that it has; None where NVML does not say."""
    memory = _ask_driver(pynvml.nvmlDeviceGetMemoryInfo)
    return None if memory is None else (memory.used / GIB, memory.total / GIB)


def gpu_load() -> int | None:
    """Per cent of the last moments in which the GPU computed; None where NVML does not say."""
    found = _ask_driver(pynvml.nvmlDeviceGetUtilizationRates)
    return None if found is None else int(found.gpu)


def _ask_driver(question: Callable[[Any], Any]) -> Any:
    """What NVML says of this rank's GPU; None where it does not."""
    if not torch.cuda.is_available():
        return None
    try:
        pynvml.nvmlInit()
        return question(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(this_rank().local_rank).uuid}"))
    except pynvml.NVMLError:
        return None


def check_quantization(quantization: str, hardware: Hardware) -> None:
    """Raises SettingsError if `hardware` cannot compute with weights quantised like that."""
    if quantization == "int8" and hardware.device == "cpu":
        raise SettingsError("QUANTIZATION=int8 needs a GPU, none is here. Set QUANTIZATION=nf4 or none.")
    if quantization == "int8" and hardware.capability < (7, 5):
        raise SettingsError(
            f"QUANTIZATION=int8 needs compute capability 7.5, {hardware.name} has {'.'.join(map(str, hardware.capability))}. "
            "Set QUANTIZATION=nf4 or none."
        )


def choose_precision(precision: str, hardware: Hardware, width: int = 0) -> str:
    """The type of the base model's weights: "fp32", "fp16" or "bf16". Raises SettingsError for one that this hardware lacks.

    width: of the model's residual stream; where it is not given, a CPU's choice is fp32.
    """
    if precision == "bf16" and hardware.device == "cuda" and not hardware.has_bf16:
        raise SettingsError(f"PRECISION=bf16: {hardware.name} has no bfloat16 (compute capability 8.0). Set PRECISION=auto.")
    if precision == "auto" and hardware.device == "cpu":
        return "bf16" if width >= LEAST_WIDTH and bf16_gain(width) >= LEAST_GAIN else "fp32"
    if precision == "auto":
        return "bf16" if hardware.has_bf16 else "fp16"
    return precision


@functools.cache
def bf16_gain(width: int) -> float:
    """How many times as fast this CPU multiplies matrices of this width in bfloat16 as in float32.

    Timed, since names mislead: a CPU without the instructions takes five times as long. The best of several is what it can do.
    """
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(9):
        for dtype, times in seconds.items():
            rows, weights = torch.ones(256, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
            started = time.perf_counter()
            linear(rows, weights)
            times.append(time.perf_counter() - started)
    return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])


def estimate_training_s(parameters: int, tokens: int) -> float:
    """Rough seconds that LoRA training on this CPU takes: 4 FLOPs a parameter and token at a third of its matmul rate."""
    size = 512
    matrix = torch.rand(size, size)
    linear(matrix, matrix)
    started = time.perf_counter()
    for _ in range(10):
        linear(matrix, matrix)
    flops_per_s = 10 * 2 * size**3 / (time.perf_counter() - started)
    return 4 * parameters * tokens / (flops_per_s / 3)
