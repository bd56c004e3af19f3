"""A GPU's full memory by all its names, and what is none."""

import pytest
import torch

from job.errors import OutOfMemory
from job.system.gpu_errors import is_gpu_failure, one_name_for_full_memory
from job.system.out_of_memory import is_out_of_memory, out_of_memory_behind

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]
BROKEN = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
]
OTHER = [
    RuntimeError("expected scalar type Half but found Float"),
    ValueError("out of memory"),
    RuntimeError("out of it"),
]


def raised(error: BaseException, context) -> BaseException:
    with pytest.raises(type(error).__mro__[-3]) as found, context():  # Exception
        raise error
    return found.value


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_memory_has_one_name_and_ends_a_command_with_72(error):
    assert is_out_of_memory(error)
    assert isinstance(raised(error, one_name_for_full_memory), torch.OutOfMemoryError)
    ended = out_of_memory_behind(error)
    assert isinstance(ended, OutOfMemory)
    assert "the GPU's memory is full" in str(ended)
    assert "Set QUANTIZATION=nf4" in str(ended)
    assert "\n" not in str(ended)


@pytest.mark.parametrize("error", BROKEN + OTHER, ids=str)
def test_any_other_error_stays_what_it_is(error):
    assert not is_out_of_memory(error)
    assert raised(error, one_name_for_full_memory) is error
    assert out_of_memory_behind(error) is None


def test_errors_of_cuda_are_told_from_those_of_a_program():
    assert all(map(is_gpu_failure, FULL + BROKEN))
    assert not any(map(is_gpu_failure, OTHER))
