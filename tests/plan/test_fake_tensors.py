"""What `job.plan.fake_tensors` relies on in torch: each test says what a new version breaks."""

import inspect

import torch

from job.plan.fake_tensors import FakeTensorMode, StorageTracker, cuda_kernels


def test_live_bytes_are_those_of_the_storages_that_are_alive():
    with StorageTracker() as tracker:
        first = torch.empty(1000, dtype=torch.float32)
        view = first[10:]
        assert tracker.live_bytes == 4000, "a view has no storage of its own"
        second = first + 1
        assert tracker.live_bytes == 8000
        del first, view
        assert tracker.live_bytes == 4000
    assert tracker.peak_bytes == 8000
    assert second.numel() == 1000


def test_fake_tensors_have_storages_that_can_be_counted():
    with FakeTensorMode(), StorageTracker() as tracker:
        kept = torch.empty(2**40, dtype=torch.uint8)
        assert tracker.live_bytes == 2**40, "FakeTensorMode's storages do not tell their size any more"
    assert kept.numel() == 2**40


def test_the_attention_kernel_of_cuda_has_the_arguments_that_the_simulation_gives():
    schema = torch.ops.aten._scaled_dot_product_efficient_attention.default._schema
    names = [argument.name for argument in schema.arguments]
    said = "torch changed _scaled_dot_product_efficient_attention: see cuda_kernels in job/plan/fake_tensors.py"
    assert names == ["query", "key", "value", "attn_bias", "compute_log_sumexp", "dropout_p", "is_causal", "scale"], said


def test_the_replaced_functions_take_what_torchs_own_take():
    functional = torch.nn.functional
    names = list(inspect.signature(functional.dropout).parameters)
    with cuda_kernels():
        replaced = list(inspect.signature(functional.dropout).parameters)
    assert replaced == names, "torch.nn.functional.dropout has other arguments now: see cuda_kernels in job/plan/fake_tensors.py"
    documented = functional.scaled_dot_product_attention.__doc__
    with cuda_kernels():
        for name in inspect.signature(functional.scaled_dot_product_attention).parameters:
            assert name in documented, f"scaled_dot_product_attention has no {name} any more"


def test_afterwards_the_functions_are_torchs_own():
    before = torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention
    with cuda_kernels():
        assert torch.nn.functional.dropout is not before[0]
    assert (torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention) == before
