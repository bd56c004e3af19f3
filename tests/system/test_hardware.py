"""What the machine can do decides what is allowed; the cards here are descriptions, no devices."""

from dataclasses import replace

import pytest
import torch

from job.errors import HardwareError, SettingsError
from job.system import hardware
from job.system.hardware import GIB, Hardware, check_quantization, choose_precision, detect

V100 = Hardware("cuda", "Tesla V100", 16 * 2**30, (7, 0))
T4 = Hardware("cuda", "Tesla T4", 16 * 2**30, (7, 5))
A100 = Hardware("cuda", "A100", 40 * 2**30, (8, 0))
CPU = Hardware("cpu", "CPU", 24 * 2**30)


def test_bf16_is_chosen_where_the_card_has_it_and_fp16_on_older_ones():
    chosen = [choose_precision("auto", card) for card in (V100, T4, A100, CPU)]
    assert chosen == ["fp16", "fp16", "bf16", "fp32"]
    with pytest.raises(SettingsError, match="Tesla V100 has no bfloat16"):
        choose_precision("bf16", V100)


def test_int8_is_refused_where_it_would_compute_garbage():
    with pytest.raises(SettingsError, match=r"needs compute capability 7.5, Tesla V100 has 7.0. Set QUANTIZATION=nf4"):
        check_quantization("int8", V100)
    with pytest.raises(SettingsError, match="needs a GPU"):
        check_quantization("int8", CPU)
    for card in (T4, A100):
        check_quantization("int8", card)
    check_quantization("nf4", V100)


def test_auto_falls_back_to_the_cpu_and_cuda_does_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert detect("auto").device == detect("cpu").device == "cpu"
    with pytest.raises(HardwareError, match="no GPU is visible"):
        detect("cuda")


def test_a_card_that_this_torch_has_no_kernels_for_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    with pytest.raises(HardwareError, match=r"kernels for \[75, 80\] only"):
        hardware._check_kernels(V100)
    hardware._check_kernels(T4)


def test_a_gpu_that_torch_cannot_use_is_an_error_not_a_slow_run_on_the_cpu(monkeypatch, tmp_path):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(hardware, "GPU_DEVICE", tmp_path / "nvidia0")
    with pytest.raises(HardwareError, match=r"There is a GPU .*driver .*DEVICE=cpu trains without"):
        detect("auto")
    assert detect("cpu").device == "cpu"


def test_energy_is_what_nvml_says_in_joules(monkeypatch):
    from types import SimpleNamespace

    from job.system import hardware

    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware.torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="1-2"))
    monkeypatch.setattr(hardware.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(hardware.pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(hardware.pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda gpu: {"GPU-1-2": 5_500}[gpu])  # millijoules
    assert hardware.gpu_energy_j() == 5.5

    def lacking(gpu: str) -> None:
        raise hardware.pynvml.NVMLError(hardware.pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(hardware.pynvml, "nvmlDeviceGetTotalEnergyConsumption", lacking)
    assert hardware.gpu_energy_j() is None


@pytest.mark.parametrize(("used_gib", "taken_gib"), [(0.9, 0.0), (3.0, 3.0), (5.0, 3.0)])
def test_memory_that_others_take_is_not_this_processs_own(monkeypatch, used_gib, taken_gib):
    """Of 16 GiB; where five are used, two of them are tensors of this process."""
    own_gib = 2.0 if used_gib == 5.0 else 0.0
    monkeypatch.setattr(hardware.torch.cuda, "mem_get_info", lambda _: (int((16 - used_gib) * GIB), 16 * GIB))
    monkeypatch.setattr(hardware.torch.cuda, "memory_reserved", lambda _: int(own_gib * GIB))
    assert hardware._taken_by_others() / GIB == pytest.approx(taken_gib)
    described = replace(V100, taken_bytes=int(taken_gib * GIB)).describe()
    assert ("3.0 of them taken by other processes" in described) == (taken_gib > 0)


def test_without_a_gpu_there_is_no_peak(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    hardware.reset_peak_memory()
    assert hardware.peak_memory_gib() is None
