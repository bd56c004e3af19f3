"""The doctor: all green on a machine that can, one red line and its exit code where something is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from job.commands import doctor
from job.errors import HardwareError
from job.system import hardware
from job.system.hardware import Hardware, check_computes
from tests.conftest import environment_with

ROOT = Path(__file__).parents[2]
V100 = Hardware("cuda", "Tesla V100", 16 * 2**30, (7, 0))


def test_a_machine_that_can_train_the_demo_is_green(run_job, capsys):
    assert run_job("doctor")[0] == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["ok"] * 8
    assert "encoder-decoder, 1 million parameters" in lines[5]
    assert "960 rows" in lines[7]


def test_every_check_is_made_and_the_first_red_one_decides(run_job, capsys):
    code, said = run_job("doctor", MODEL_ID="./nowhere", TRAIN_DATA="none.csv")
    assert code == 66
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 5 + ["FAILED"] * 3
    assert "MODEL_ID=./nowhere" in lines[5]
    assert said.splitlines()[-1] in lines[5]


def test_shared_memory_that_is_too_small_names_the_option(run_job, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "SHARED_BYTES", 2**60)
    assert run_job("doctor")[0] == 73
    assert "--shm-size 1g" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_arithmetic_that_is_tried_on_a_gpu_is_right(monkeypatch, dtype):
    for compute in (hardware._product, hardware._attention, hardware._nf4):
        found, expected = compute(dtype, "cpu")
        assert (found.float() - expected).norm() < hardware.TOLERANCE * expected.norm()


@pytest.mark.parametrize("broken", ["_product", "_attention", "_nf4"])
def test_a_gpu_that_computes_wrong_or_not_at_all_is_refused(monkeypatch, broken):
    for name in ("_product", "_attention", "_nf4"):
        compute = getattr(hardware, name)
        monkeypatch.setattr(hardware, name, lambda dtype, _device, compute=compute: compute(dtype, "cpu"))
    check_computes(V100, torch.float16)
    right = getattr(hardware, broken)
    monkeypatch.setattr(hardware, broken, lambda *call: tuple(2 * part if n == 0 else part for n, part in enumerate(right(*call))))
    with pytest.raises(HardwareError, match=r"Tesla V100.* in torch.float16 is wrong"):
        check_computes(V100, torch.float16)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(hardware, broken, fail)
    with pytest.raises(HardwareError, match=r"fails: CUDA error: no kernel image is available. Check driver and image"):
        check_computes(V100, torch.float16)


def test_a_machine_with_too_little_memory_is_told_how_much_the_model_needs(run_job, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES_BYTES", 2**60)
    assert run_job("doctor")[0] == 72
    assert "MODEL_ID=demo needs 1073741824.0 GiB of the machine's memory" in capsys.readouterr().out


def call_on_two_ranks(tmp_path: Path, **variables: object) -> tuple[int, list[str]]:
    """Exit code of `doctor` in two processes, and the lines of its checks."""
    asked = environment_with({"NPROC_PER_NODE": 2} | variables)
    done = subprocess.run(
        [sys.executable, ROOT / "entrypoint.py", "doctor"], cwd=tmp_path, env=asked, capture_output=True, text=True, check=False
    )
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith(("ok ", "FAILED "))]


@pytest.mark.slow
def test_two_ranks_are_checked_together(tmp_path):
    code, lines = call_on_two_ranks(tmp_path)
    assert code == 0, lines
    told = {line[8:].partition("  ")[0]: line for line in lines}
    assert len(told) == len(lines) == 12
    assert "2 x CPU with" in told["machine"]
    assert " TFLOPS" in told["cards"]
    assert "GB/s each way; the adapter's gradient, 0.295 MB," in told["link"], "the demo's LoRA has 73,728 numbers"
    assert "output is the same for all ranks" in told["shared folder"]
    assert list((tmp_path / "output").iterdir()) == []


@pytest.mark.slow
def test_a_failure_on_two_ranks_is_told_once_with_its_exit_code_and_no_run_is_called_failed(tmp_path):
    code, lines = call_on_two_ranks(tmp_path, MODEL_ID="./nowhere", TRAIN_DATA="demo")
    assert code == 66
    (model,) = (line for line in lines if "  model " in line)
    assert model.startswith("FAILED")
    assert "rank 0, 1: MODEL_ID=./nowhere: no such folder" in model
    assert list(tmp_path.glob("output/*")) == []
