"""A GPU that is not there: tensors are computed on the CPU, and Python sees those that belong on the card as cuda:0.

It shows wrong branches, crashes, operands on two devices, types that CUDA's kernels do not take, waiting for the card, memory that
is not given back, and what becomes of a card that is full, at any moment that a test chooses. It cannot show how a kernel computes
or rounds, how fast it is, which of several attention kernels is taken, what a kernel needs beside its result, what fragments, what
the driver says, NCCL, or that two streams race. A tensor on the card can be read without a copy by C++ code that never asks Python.
"""

import contextlib
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

GIB = 2**30
CARDS = {
    "V100": ("Tesla V100-SXM2-16GB", 15.77, (7, 0)), "T4": ("Tesla T4", 14.57, (7, 5)), "L4": ("NVIDIA L4", 22.05, (8, 9)),
    "A100": ("NVIDIA A100-SXM4-40GB", 39.39, (8, 0)), "H100": ("NVIDIA H100 80GB HBM3", 79.1, (9, 0)),
}  # fmt: skip
"""Name, GiB and compute capability, as torch tells them."""
CPU, aten = torch.device("cpu"), torch.ops.aten
PRODUCTS = {aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default, aten.mm.dtype, aten.linear.default}
ACROSS = {aten.copy_.default, aten._to_copy.default, aten.set_.source_Tensor, aten._has_compatible_shallow_copy_type.default}
"""Operations that may have operands on two devices."""
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten._unsafe_index.Tensor}
"""These may have their places on the CPU."""
MAKERS = {name: getattr(torch, name) for name in ("tensor", "as_tensor", "asarray")}
"""These copy to the card in C++."""
WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default,
           aten._unique2.default, aten.repeat_interleave.Tensor}  # fmt: skip
"""Operations whose result the host has to see before it can go on."""
real_device, plain_to = torch._C.TensorBase.device.__get__, torch._C.TensorBase.to


def tensors_in(given: Any) -> Iterator[Tensor]:
    """The tensors in lists, tuples and dicts."""
    if isinstance(given, Tensor):
        if given.layout is torch.strided:
            yield given
    elif isinstance(given, (list, tuple, dict)):
        for one in given.values() if isinstance(given, dict) else given:
            yield from tensors_in(one)


def one_device(function: Any, found: Iterable[torch.device]) -> None:
    if len(places := set(found)) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device, found {places} (pretended, in {function})")


class PretendedGpu:
    """What is on the card, and what happened there."""

    def __init__(self, card: str, memory_gib: float | None = None, cards: int = 1) -> None:
        self.name, gib, self.capability = CARDS[card]
        self.total_bytes, self.cards, self.current = int((memory_gib or gib) * GIB), cards, 0
        self.limit_bytes: float = self.total_bytes
        self.storages: dict[int, torch.device] = {}
        """Those on a card; every other one is on the CPU."""
        self.live_bytes = self.peak_bytes = 0
        self.waits: Counter[str] = Counter()
        """How often the host waited for the card, by the line of the job or of a library that made it."""
        self.fails: Callable[[], BaseException | None] = lambda: None
        """Asked before each matrix product: what that fails with."""
        self.generator, self.place = torch.Generator(), threading.local()

    def device_of(self, tensor: Tensor) -> torch.device:
        with torch._C.DisableTorchFunction():
            real = real_device(tensor)
            if real.type != "cpu" or type(tensor).__name__ == "FakeTensor" or tensor.layout is not torch.strided:
                return real
            return self.storages.get(tensor.untyped_storage()._cdata, real)

    def put(self, tensor: Tensor, device: torch.device) -> Tensor:
        """`tensor`, whose storage counts as one on `device` from now on."""
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
        key, size, was_there = storage._cdata, storage.nbytes(), storage._cdata in self.storages
        if device.type == "cpu":
            return self._forget(key, size) or tensor
        self.storages[key] = torch.device("cuda", self.current if device.index is None else device.index)
        if not was_there:
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._forget, key, size)
        return tensor

    def _forget(self, key: int, size: int) -> None:
        if self.storages.pop(key, None):
            self.live_bytes -= size

    def check_room(self, tried_bytes: int) -> None:
        if self.live_bytes > self.limit_bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {tried_bytes / 2**20:.2f} MiB. (pretended)")

    def wait(self) -> None:
        frame: Any = sys._getframe(1)
        while frame.f_code.co_filename == __file__ or "/torch/" in frame.f_code.co_filename:
            frame = frame.f_back
        self.waits[f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}"] += 1

    def moved(self, tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        if device.type == "cpu":
            self.wait()
        made = self.put(plain_to(tensor, dtype, copy=True), device)
        self.check_room(made.nbytes)
        return made

    @contextlib.contextmanager
    def inside(self, what: str) -> Iterator[None]:
        """While this holds, `is_inside(what)` in this thread."""
        before = self.is_inside(what)
        setattr(self.place, what, True)
        try:
            yield
        finally:
            setattr(self.place, what, before)

    def is_inside(self, what: str) -> bool:
        return getattr(self.place, what, False)

    def shown_device(self, tensor: Tensor) -> torch.device:
        """What `tensor.device` is; in a kernel that is written in Python the CPU, where it runs."""
        return real_device(tensor) if self.is_inside("kernel") else self.device_of(tensor)


class Kernels(TorchDispatchMode):
    """Every operation: where its operands are, where its result belongs, whether the host waits, whether the memory is full."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        gpu, kwargs = self.gpu, dict(kwargs or {})
        operands = list(tensors_in((args, kwargs)))
        found = [gpu.device_of(operand) for operand in operands]
        wanted = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        target = wanted if wanted and wanted.type == "cuda" else next((one for one in found if one.type == "cuda"), None)
        if function in INDEXING:
            target = found[0] if found[0].type == "cuda" else None
        if target is not None and wanted == target:
            kwargs["device"] = CPU
        elif target is None or any(one.type == "meta" for one in found):
            return function(*args, **kwargs)
        if not gpu.is_inside("attention"):
            self._check_operands(function, operands, found)
        if function is aten.mm.dtype:  # half precision in, float32 out: on a GPU alone
            wide = kwargs.pop("out_dtype") if "out_dtype" in kwargs else args[2]
            function, args = aten.mm.default, tuple(factor.to(wide) for factor in args[:2])
        with self._own_random_numbers(function, kwargs), gpu.inside("kernel"):
            result = function(*args, **kwargs)
        made = [tensor for tensor in tensors_in(result) if gpu.device_of(tensor).type == "cpu"]
        given = {operand.untyped_storage()._cdata for operand in operands}
        for tensor in made:
            if wanted or tensor.untyped_storage()._cdata not in given:
                gpu.put(tensor, target)
        gpu.check_room(sum(tensor.nbytes for tensor in made))
        return result

    def _check_operands(self, function: Any, operands: list[Tensor], found: list[torch.device]) -> None:
        if function not in ACROSS | INDEXING:
            one_device(function, (device for tensor, device in zip(operands, found, strict=True) if tensor.dim()))
        if function in WAITING or (function in INDEXING and any(tensor.dtype == torch.bool for tensor in operands[1:])):
            self.gpu.wait()
        if (
            function.namespace == "bitsandbytes"
            and "int8_vectorwise_quant" in function.name()
            and operands[0].dtype != torch.float16
        ):  # as bitsandbytes' CUDA kernel
            raise ValueError(f"A must be float16, got {operands[0].dtype} (pretended)")
        if function in PRODUCTS and (failure := self.gpu.fails()):
            raise failure

    @contextlib.contextmanager
    def _own_random_numbers(self, function: Any, kwargs: dict) -> Iterator[None]:
        """CUDA's generator is another than the CPU's."""
        if torch.Tag.nondeterministic_seeded not in function.tags or kwargs.get("generator") is not None:
            yield
            return
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.gpu.generator.get_state())
        try:
            yield
        finally:
            self.gpu.generator.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)


class Moves(TorchFunctionMode):
    """What operations never see, as all tensors are on the CPU: moves from device to device, and a look at a tensor's content."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        here = self.gpu.device_of(args[0]) if args and isinstance(args[0], Tensor) else CPU
        if here.type == "meta":
            return function(*args, **kwargs)
        if function in (torch.Tensor.cpu, torch.Tensor.cuda):
            function, args = torch.Tensor.to, (args[0], function.__name__)
        if function is torch.Tensor.to:
            return self._to(here, *args, **kwargs)
        if function in MAKERS.values() and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda":
            return self.gpu.put(function(*args, **kwargs | {"device": CPU}), torch.device(kwargs["device"]))
        if function is torch.Tensor.new_tensor and here.type == "cuda":
            return self.gpu.put(function(*args, **kwargs), here)
        if function is torch.Tensor.pin_memory:
            return args[0].clone()
        if here.type == "cuda" and function in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy (pretended)")
        if function is F.scaled_dot_product_attention:  # makes its own mask, on the CPU
            one_device(function, map(self.gpu.device_of, tensors_in((args, kwargs))))
            with self.gpu.inside("attention"):
                return function(*args, **kwargs)
        if here.type == "cuda" and function is torch.Tensor.tolist:
            self.gpu.wait()
        return function(*args, **kwargs)

    def _to(self, here: torch.device, tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        flags, args = [one for one in args if isinstance(one, bool)], tuple(one for one in args if not isinstance(one, bool))
        copy = copy or flags[1:] == [True]  # behind `non_blocking`
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype)
        device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        if device and device.type == "cuda" and device.index is None:
            device = torch.device("cuda", self.gpu.current)
        if not device or device.type == "meta" or device == here:
            options = {"copy": copy} if memory_format is None else {"copy": copy, "memory_format": memory_format}
            if device and device.type == "meta":
                return plain_to(tensor, device, dtype or tensor.dtype, **options)
            return plain_to(tensor, dtype or tensor.dtype, **options)
        return self.gpu.moved(tensor, device, dtype or tensor.dtype)


@contextlib.contextmanager
def pretended(card: str, memory_gib: float | None = None, cards: int = 1) -> Iterator[PretendedGpu]:
    """A machine with such a card, or several, while this holds. memory_gib: of a smaller one of its kind."""
    gpu = PretendedGpu(card, memory_gib, cards)
    run, load_file = threading.Thread.run, safetensors.torch.load_file

    def run_with_modes(thread: threading.Thread) -> None:  # a mode is its thread's own, and weights are loaded in several
        with Kernels(gpu), Moves(gpu):
            run(thread)

    def load(filename: Any, device: Any = "cpu") -> dict[str, Tensor]:  # copies to the card in Rust
        return {name: tensor.to(device) for name, tensor in load_file(filename).items()}

    def maker(make: Callable[..., Tensor]) -> Callable[..., Tensor]:  # copies to the card in C++
        def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            if device is None or torch.device(device).type == "meta":
                return make(*args, device=device, **kwargs)
            return make(*args, **kwargs).to(device)

        return made

    _device_constructors()  # remembers the real ones, which `with torch.device(...)` is for
    with contextlib.ExitStack() as stack:
        for owner, replacements in _replacements(gpu):
            for name, replacement in replacements.items():
                stack.enter_context(patch.object(owner, name, replacement))
        for name, make in MAKERS.items():
            stack.enter_context(patch.object(torch, name, maker(make)))
        for module in list(sys.modules.values()):
            for name in ("load_file", "safe_load_file"):
                if vars(module).get(name) is load_file:
                    stack.enter_context(patch.object(module, name, load))
        stack.enter_context(patch.object(threading.Thread, "run", run_with_modes))
        stack.enter_context(Kernels(gpu))
        stack.enter_context(Moves(gpu))
        yield gpu


def _replacements(gpu: PretendedGpu) -> list[tuple[Any, dict[str, Any]]]:
    """What torch tells of the machine, by who tells it."""
    memory = {
        "memory_allocated": lambda _=None: gpu.live_bytes, "max_memory_allocated": lambda _=None: gpu.peak_bytes,
        "memory_reserved": lambda _=None: gpu.live_bytes, "max_memory_reserved": lambda _=None: gpu.peak_bytes,
        "reset_peak_memory_stats": lambda _=None: setattr(gpu, "peak_bytes", gpu.live_bytes), "empty_cache": lambda: None,
        "synchronize": lambda _=None: None, "is_available": lambda: True, "device_count": lambda: gpu.cards,
    }  # fmt: skip
    major, minor = gpu.capability
    properties = SimpleNamespace(
        name=gpu.name, total_memory=gpu.total_bytes, major=major, minor=minor, uuid="0", multi_processor_count=80
    )
    cuda = memory | {
        "current_device": lambda: gpu.current, "set_device": lambda device: setattr(gpu, "current", device),
        "get_device_properties": lambda _=None: properties, "get_device_capability": lambda _=None: gpu.capability,
        "get_device_name": lambda _=None: gpu.name, "get_arch_list": lambda: ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90"],
        "mem_get_info": lambda _=None: (int(gpu.limit_bytes - gpu.live_bytes), gpu.total_bytes),
        "set_per_process_memory_fraction": lambda share, _=None: setattr(gpu, "limit_bytes", share * gpu.total_bytes),
        "is_initialized": lambda: True, "_is_in_bad_fork": lambda: False, "_lazy_init": lambda: None,
        "_lazy_call": lambda *_, **__: None, "device": lambda _: contextlib.nullcontext(), "current_stream": lambda _=None: None,
        "is_current_stream_capturing": lambda: False, "is_bf16_supported": lambda *_: gpu.capability >= (8, 0),
        "manual_seed": gpu.generator.manual_seed, "manual_seed_all": gpu.generator.manual_seed,
        "get_rng_state": lambda _=None: gpu.generator.get_state(),
        "set_rng_state": lambda state, _=None: gpu.generator.set_state(state),
    }  # fmt: skip
    accelerator = {"current_accelerator": lambda *_, **__: torch.device("cuda"), "current_device_index": lambda: gpu.current}
    group, init_process_group = torch._C._group_tensors_by_device_and_dtype, torch.distributed.init_process_group

    def grouped(lists: list[list[Tensor]], with_indices: bool = False) -> dict:  # C++ would say that they are on the CPU
        return {(gpu.device_of(found[0][0][0]), dtype): found for (_, dtype), found in group(lists, with_indices).items()}

    return [
        (torch.Tensor, {
            "device": property(gpu.shown_device), "is_cuda": property(lambda one: gpu.shown_device(one).type == "cuda"),
            "is_cpu": property(lambda one: gpu.shown_device(one).type == "cpu"),
            "get_device": lambda one: -1 if gpu.shown_device(one).type == "cpu" else gpu.shown_device(one).index,
        }),
        (torch.cuda, cuda), (torch.accelerator, memory | accelerator),
        (torch._C, {"_group_tensors_by_device_and_dtype": grouped}),
        (torch.autograd, {"has_torch_function": lambda _: False}),  # else a backward pass would be computed without `Moves`
        (torch._tensor, {"has_torch_function_unary": lambda _: False}),
        (torch.distributed, {"init_process_group": lambda _, **options: init_process_group("gloo", **options)}),
    ]  # fmt: skip
