"""The errors that mean a machine or a GPU has no memory left, which every library words in its own way."""

import errno

from job.errors import JobError, OutOfMemory, first_line

OF_A_GPU = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "when calling `cublasCreate",
)
"""In the errors of torch, the driver and CUDA's libraries; cuBLAS finds no room for itself when it is first called."""
OF_A_MACHINE = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "Cannot allocate memory",
    "malloc of size",
)
"""In messages of torch's allocators, the C++ library, the kernel and arrow."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there is no memory left."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and (_is_torchs(error) or any(sign in str(error) for sign in OF_A_GPU + OF_A_MACHINE))


def tells_of_out_of_memory(message: str) -> bool:
    """The same of the last message of a traceback, which is all that another process leaves of its error."""
    return any(sign in message for sign in ("MemoryError", *OF_A_GPU, *OF_A_MACHINE))


def out_of_memory_behind(error: BaseException) -> OutOfMemory | None:
    """What `error` means to a person where it comes from a lack of memory that nothing smaller was tried for."""
    if isinstance(error, JobError) or not is_out_of_memory(error):
        return None
    if _is_torchs(error) or any(sign in str(error) for sign in OF_A_GPU):
        return OutOfMemory(
            f"the GPU's memory is full ({first_line(error)}). Set QUANTIZATION=nf4 or GRADIENT_CHECKPOINTING=true, or a smaller "
            "MODEL_ID; `plan` says which GPU would do, `nvidia-smi` whether another process uses this one."
        )
    return OutOfMemory(
        f"out of memory ({first_line(error)}). Set a smaller PER_DEVICE_TRAIN_BATCH_SIZE, MAX_SOURCE_LENGTH or MODEL_ID, or use a "
        "machine with more."
    )


def _is_torchs(error: BaseException) -> bool:
    """Whether it is torch.OutOfMemoryError, as raised for a GPU, by its name: torch itself takes seconds to import."""
    return type(error).__name__ == "OutOfMemoryError" and not isinstance(error, JobError)
