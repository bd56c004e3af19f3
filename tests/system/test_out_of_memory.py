"""Each library's own way to say that there is no memory left: made by asking it for a petabyte."""

import traceback

import numpy as np
import pytest
import torch

from job.errors import DataError
from job.system.gpu_errors import one_name_for_full_memory
from job.system.out_of_memory import is_out_of_memory, out_of_memory_behind, tells_of_out_of_memory

ASKED = {"torch": lambda: torch.empty(2**50), "numpy": lambda: np.empty(2**50), "Python": lambda: bytearray(2**60)}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_lack_of_memory_is_72_in_one_line_and_alike_everywhere(ask):
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        ask()
    assert is_out_of_memory(raised.value)
    assert tells_of_out_of_memory(traceback.format_exception_only(raised.value)[-1])
    meant = out_of_memory_behind(raised.value)
    assert meant.exit_code == 72
    assert str(meant).startswith("out of memory (")
    assert "\n" not in str(meant)
    with pytest.raises(torch.OutOfMemoryError), one_name_for_full_memory():
        ask()


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shapes differ"), DataError("out of memory. Do.")])
def test_other_errors_stay_what_they_are(error):
    assert out_of_memory_behind(error) is None
    with pytest.raises(type(error)), one_name_for_full_memory():
        raise error
