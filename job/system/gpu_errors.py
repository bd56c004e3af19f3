"""What a computation fails with: one name for a full memory, and after most other errors a GPU computes nothing more."""

import contextlib
from collections.abc import Iterator

import torch

from job.errors import first_line
from job.system.out_of_memory import is_out_of_memory

BROKEN = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")


def is_gpu_failure(error: BaseException) -> bool:
    """Whether `error` came from CUDA or its libraries, not from the program that asked: the card may compute nothing more."""
    is_cuda = isinstance(error, RuntimeError) and any(sign in str(error) for sign in BROKEN)
    return isinstance(error, (torch.AcceleratorError, torch.OutOfMemoryError)) or is_cuda


@contextlib.contextmanager
def one_name_for_full_memory() -> Iterator[None]:
    """While this holds, a full memory is torch.OutOfMemoryError, whatever CUDA, torch on a CPU or numpy call it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error) and not isinstance(error, torch.OutOfMemoryError):
            raise torch.OutOfMemoryError(first_line(error)) from error
        raise
