"""bitsandbytes, imported without torch's compiler, which takes a second: it is for kernels of machines that have no faster ones."""

from unittest import mock

import torch

with mock.patch.object(torch, "compile", None):  # where this fails, bitsandbytes takes the functions as they are
    import bitsandbytes

__all__ = ["bitsandbytes"]
