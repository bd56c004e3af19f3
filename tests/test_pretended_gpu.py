"""The pretended GPU itself, and one short run on it; `make test-pretended-gpu` has the others."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.pretended_gpu import pretended


@pytest.fixture
def gpu():
    with pretended("T4") as gpu:
        yield gpu


def test_a_tensor_is_where_it_was_put_and_what_is_computed_from_it_too(gpu):
    layer = nn.Linear(4, 4).to("cuda")
    made = layer(torch.ones(2, 4, device="cuda")).sum()
    made.backward()
    assert {tensor.device.type for tensor in (made, layer.weight, layer.weight.grad)} == {"cuda"}
    assert torch.tensor([1.0], device="cuda").is_cuda
    assert made.cpu().device.type == torch.ones(1).device.type == "cpu"
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        made.detach().numpy()


def test_operands_on_two_devices_are_an_error_but_for_plain_numbers_and_indices(gpu):
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.raises(RuntimeError, match="on the same device"):
        there + here
    assert (there + torch.tensor(1.0)).tolist() == [2, 2, 2]
    assert there[torch.tensor([0, 1])].is_cuda


def test_bytes_are_counted_and_given_back_and_a_full_card_says_so(gpu):
    kept = torch.zeros(256, device="cuda")
    assert (gpu.live_bytes, torch.cuda.max_memory_allocated()) == (1024, 1024)
    gpu.limit_bytes = 3000
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        torch.cat([kept, kept]).clone()
    assert gpu.live_bytes == 1024
    del kept
    assert (gpu.live_bytes, gpu.peak_bytes) == (0, 3072)


@pytest.mark.parametrize(
    ("look", "times"),
    [
        (lambda tensor: tensor.sum().item(), 1),
        (lambda tensor: tensor.nonzero(), 1),
        (lambda tensor: tensor[tensor > 0], 1),
        (lambda tensor: tensor.cpu(), 1),
        (lambda tensor: tensor.tolist(), 1),
        (lambda tensor: (tensor * 2).sum(), 0),
        (lambda tensor: torch.where(tensor > 0, tensor, 0), 0),
    ],
)
def test_each_look_at_the_cards_content_is_a_wait(gpu, look, times):
    look(torch.ones(3, device="cuda"))
    assert sum(gpu.waits.values()) == times
    assert all(place.startswith("tests/test_pretended_gpu.py") for place in gpu.waits)


def test_the_cards_random_numbers_are_its_own(gpu):
    torch.manual_seed(1)
    before = torch.default_generator.get_state()
    first = torch.rand(3, device="cuda")
    assert torch.equal(torch.default_generator.get_state(), before)
    torch.manual_seed(1)
    assert torch.rand(3, device="cuda").tolist() == first.tolist()


def test_int8_takes_half_precision_alone_as_on_a_real_card(gpu):
    import bitsandbytes

    with pytest.raises(ValueError, match="A must be float16"):
        bitsandbytes.functional.int8_vectorwise_quant(torch.ones(2, 32, device="cuda"))


def test_afterwards_there_is_no_gpu():
    with pretended("H100", cards=2):
        assert torch.cuda.get_device_capability() == (9, 0)
        assert torch.cuda.device_count() == 2
    assert not torch.cuda.is_available()
    assert torch.ones(1).to("cpu").device.type == "cpu"


def test_a_short_run_on_a_card_without_bf16_trains_in_fp16_and_keeps_its_peaks(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "DEVICE": "cuda", "RUN_NAME": "r", "MAX_STEPS": 2}
    short = {"PADDING_FREE": "true", "SAVE_STRATEGY": "no", "MAX_NEW_TOKENS": 4, "EVAL_MAX_ROWS": 2, "REPORT_TO": "none"}
    with pretended("T4"):
        code, said = run_job("train", **variables | short)
    assert code == 0, said
    plan = json.loads(Path("output/r/plan.json").read_text())
    assert (plan["precision"], plan["padding_free"]) == ("fp16", True)
    assert plan["peak_gib"].keys() >= {"check", "rehearsal", "training"}
    assert plan["measured_peak_gib"] <= plan["predicted_peak_gib"]
