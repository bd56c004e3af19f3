"""Nothing is compiled as a command is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_is_imported_without_torchs_compiler():
    code = (
        "import sys, job.commands.run, torch; sys.exit('torch._inductor.compile_fx' in sys.modules or not callable(torch.compile))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_is_not_compiled_computes_all_the_same():
    """NF4 is off by half the widest of its gaps at most, 0.3 of a block's largest."""
    numbers = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    found = dequantize_4bit(*quantize_4bit(numbers, quant_type="nf4"))
    assert (found - numbers).abs().max() < 0.16 * numbers.abs().max()
