"""The peak memory of a training step, counted on fake tensors: the real model class and PEFT, no GPU, no weights, seconds."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest.mock import patch

import torch
from peft import PeftModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from job.model.activations import checkpoint_blocks, fuse_gelu
from job.model.objective import chunked_cross_entropy, headless


@dataclass(frozen=True)
class Batch:
    """The longest batch that a step may see, padded."""

    rows: int
    source_length: int
    target_length: int
    """0 for a causal model, whose prompt and answer are one sequence of `source_length`."""


@dataclass(frozen=True)
class Simulated:
    """What a step holds, in bytes."""

    weights: int
    peak: int
    """Weights included."""


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and the most that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._sizes: dict[int, int] = {}

    def track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key)

    def __torch_dispatch__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.track(leaf)
        return result


def simulate_training_step(
    config: PreTrainedConfig,
    adapt: Callable[[PreTrainedModel], PeftModel],
    dtype: torch.dtype,
    batch: Batch,
    checkpointed_blocks: int = 0,
    on_cuda: bool = True,
) -> Simulated:
    """The weights and the peak of a training step with AdamW in steady state, as CUDA's kernels or the CPU's would hold them.

    adapt: puts the adapter on the model. Nothing is quantised; beside float16, T5's `wo` is float32, as in a run.
    """
    with torch.device("meta"):
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = auto.from_config(config, dtype=dtype).requires_grad_(False)
        fuse_gelu(model)
        model = adapt(model)
    model.config.use_cache = False
    checkpoint_blocks(model, checkpointed_blocks)
    with FakeTensorMode(), cuda_kernels() if on_cuda else contextlib.nullcontext():
        _make_fake(model)
        return run_tracked(model.train(), batch)


def run_tracked(model: PeftModel, batch: Batch, steps: int = 2) -> Simulated:
    """What `model`, on real or fake tensors, holds over some training steps; from the second on the optimizer has its state."""
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
            with headless(head):
                hidden = model(**inputs).logits
            chunked_cross_entropy(hidden.flatten(0, 1), labels.flatten(), head).backward()
            del hidden
            optimizer.step()
            optimizer.zero_grad()
    return Simulated(weights, tracker.peak_bytes)


@contextlib.contextmanager
def cuda_kernels() -> Iterator[None]:
    """Dropout and attention keep for the backward pass what CUDA's fused kernels keep, not what the CPU's would."""

    def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002, ARG001
        return torch.native_dropout(input, p, training)[0] if training and p else input

    def attention(  # noqa: PLR0913  the library's own signature
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,  # noqa: ARG001
    ) -> Tensor:  # fmt: skip
        """query: (batch, heads, length, width). Grouped keys and values are repeated, as transformers does."""
        repeats = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(repeats, dim=1) if repeats > 1 else tensor for tensor in (key, value))
        bias = attn_mask
        if bias is not None:
            bias = (bias.to(query.dtype) if bias.dtype == torch.bool else bias).expand(*query.shape[:2], -1, -1)
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]

    functional = torch.nn.functional
    with patch.object(functional, "dropout", dropout), patch.object(functional, "scaled_dot_product_attention", attention):
        yield


def _make_fake(model: PeftModel) -> None:
    """Puts fake CPU tensors in the place of meta ones. Shared ones stay shared, but the lm_head of a T5 v1.1 is its own."""
    made: dict[object, torch.nn.Parameter] = {}
    own_head = getattr(model.config, "is_gated_act", False)
    kept = getattr(model.get_base_model(), "_keep_in_fp32_modules", None) or [] if model.dtype == torch.float16 else []
    for name, module in model.named_modules():
        for key, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            identity = (id(parameter), own_head and name.endswith("lm_head"))
            if identity not in made:
                in_float32 = parameter.requires_grad or name.rpartition(".")[2] in kept
                dtype = torch.float32 if in_float32 else parameter.dtype
                made[identity] = torch.nn.Parameter(torch.empty(parameter.shape, dtype=dtype), parameter.requires_grad)
            module._parameters[key] = made[identity]
        for key, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype)
