"""The peak memory of a training step, counted on fake tensors: the real model class and PEFT, no GPU, no weights, seconds."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedConfig, PreTrainedModel

from job.model.checkpointing import checkpoint_blocks
from job.model.kernels import fuse_gelu, fuse_norms, narrow_wo
from job.model.objective import chunked_cross_entropy, headless
from job.plan.dimensions import head_is_last, without_weights
from job.plan.fake_tensors import FakeTensorMode, StorageTracker, cuda_kernels, drawing_nothing, make_fake
from job.plan.memory import Batch


@dataclass(frozen=True)
class SimulatedMemory:
    """What a step holds, in bytes."""

    weights: int
    peak: int
    """Weights included."""


def simulate_training_step(
    config: PreTrainedConfig,
    adapt: Callable[[PreTrainedModel], PeftModel],
    dtype: torch.dtype,
    batch: Batch,
    checkpointed_blocks: int = 0,
    on_cuda: bool = True,
) -> SimulatedMemory:
    """The weights and the peak of a training step with AdamW in steady state, as CUDA's kernels or the CPU's would hold them.

    adapt: puts the adapter on the model. Nothing is quantised.
    """
    with torch.device("meta"):
        model = without_weights(config, dtype=dtype).requires_grad_(False)
        fuse_gelu(model)
        fuse_norms(model, "cuda" if on_cuda else "cpu")
        if dtype == torch.float16:
            narrow_wo(model)
        model = adapt(model)
    by_chunks = head_is_last(model)
    model.config.use_cache = False
    checkpoint_blocks(model, checkpointed_blocks)
    with FakeTensorMode(), cuda_kernels() if on_cuda else drawing_nothing():
        make_fake(model)
        return run_tracked(model.train(), batch, by_chunks=by_chunks)


def run_tracked(model: PeftModel, batch: Batch, steps: int = 2, by_chunks: bool = True) -> SimulatedMemory:
    """What `model`, on real or fake tensors, holds over some training steps; from the second on the optimizer has its state.

    by_chunks: whether the loss is computed as `job.model.objective` does it where the output layer is the model's last step.
    """
    tracker = StorageTracker()
    for tensor in (*model.parameters(), *model.buffers()):
        tracker.track(tensor)
    weights = tracker.live_bytes
    inputs = {"input_ids": torch.ones(batch.rows, batch.source_length, dtype=torch.long)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    labels = torch.ones(batch.rows, batch.target_length or batch.source_length, dtype=torch.long)
    if batch.target_length:
        inputs["decoder_input_ids"] = labels
    head = model.get_output_embeddings()
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    with tracker:
        for _ in range(steps):
            with headless(head) if by_chunks else contextlib.nullcontext():
                outputs = model(**inputs).logits.flatten(0, 1)
            if by_chunks:
                chunked_cross_entropy(outputs, labels.flatten(), head).backward()
            else:
                cross_entropy(outputs.float(), labels.flatten()).backward()
            del outputs
            optimizer.step()
            optimizer.zero_grad()
    return SimulatedMemory(weights, tracker.peak_bytes)
