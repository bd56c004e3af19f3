"""A fast GPU waits for the host, which needs 30 microseconds to launch a kernel: how many a block of a T5 takes is held here."""

import torch
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode

from job.model.kernels import fuse_gelu, fuse_norms
from job.model.lora import add_lora
from job.plan.dimensions import without_weights
from job.plan.fake_tensors import FakeTensorMode, cuda_kernels, make_fake
from job.plan.model_catalogue import known_config

NO_KERNEL = ("device", "empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view", "detach")
"""What computes nothing, and puts out no view."""


class KernelCounter(TorchDispatchMode):
    """Counts what computes: all but views."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view and function.overloadpacket.__name__ not in NO_KERNEL
        return function(*args, **(kwargs or {}))


def kernels(blocks: int) -> int:
    """Of a forward and a backward pass of FLAN-T5 with so many blocks on each side, in bf16, LoRA on q and v with dropout."""
    config = known_config("google/flan-t5-base")
    config.num_layers = config.num_decoder_layers = blocks
    with torch.device("meta"):
        model = without_weights(config, dtype=torch.bfloat16).requires_grad_(False)
        fuse_gelu(model)
        fuse_norms(model, "cuda")
        model = add_lora(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"], lora_dropout=0.05))
    with FakeTensorMode(), cuda_kernels():
        make_fake(model)
        inputs = {name: torch.ones(2, 16, dtype=torch.long) for name in ("input_ids", "attention_mask", "decoder_input_ids")}
        with KernelCounter() as counter:
            model.train()(**inputs).logits.sum().backward()
    return counter.count


def test_a_block_of_a_t5_takes_less_than_95_kernels_forward_and_backward():
    """The encoder's and the decoder's in the mean, padded rows. 178 in version 0.1.0. A fused norm is not counted."""
    a_block = (kernels(3) - kernels(1)) / 4
    assert 60 < a_block < 95
