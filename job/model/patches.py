"""Everything in which torch, transformers and bitsandbytes are changed for the model that is trained, each with its reason.

What is used here is not the libraries' public interface: tests/model/test_patches.py says in plain words when a new version of
one has moved it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from job.model.cpu_dropout import CpuDropout

POSITION_BIAS, CROSS_BIAS = 2, 5
"""Positions of `position_bias` and `encoder_decoder_position_bias` among the arguments with which a T5Stack calls its T5Blocks."""


@contextlib.contextmanager
def quantised_wo(
    auto: type[_BaseAutoModelClass], config: PreTrainedConfig, quantization: BitsAndBytesConfig | None
) -> Iterator[None]:
    """While this holds, NF4 quantises T5's `wo` as well, 18 % of XL: transformers leaves out what it keeps in float32.

    T5 then casts activations to the type that `wo` is stored in, which must be a float: see `bnb_4bit_quant_storage`.
    """
    kinds = getattr(auto._model_mapping.get(type(config), None), "__mro__", ())
    owner = next((kind for kind in kinds if vars(kind).get("_keep_in_fp32_modules")), None)
    if owner is None or quantization is None or not quantization.load_in_4bit:
        yield
        return
    kept, owner._keep_in_fp32_modules = owner._keep_in_fp32_modules, []
    try:
        yield
    finally:
        owner._keep_in_fp32_modules = kept


def keep_wo_in_float32(model: nn.Module) -> None:
    """Makes a quantised T5 compute `wo` in float32: its output overflows float16 in trained checkpoints."""
    for name, module in model.named_modules():
        if name.endswith(".wo"):
            module.compute_dtype = torch.float32


def keep_nf4_weights(model: nn.Module) -> None:
    """Stops bitsandbytes from repacking NF4 weights at the first evaluation on CPUs with AVX512-BF16: what it unpacks differs."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def fuse_gelu(model: nn.Module) -> None:
    """Replaces T5's `gelu_new`, eight kernels, by torch's own tanh GELU: one kernel that keeps its input alone."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def use_fast_dropout(model: nn.Module) -> None:
    """Makes every dropout of `model`, the adapter's too, a CpuDropout: torch draws one number at a time on a CPU."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CpuDropout


def attention_implementation(model: PreTrainedModel) -> str:
    """Name of the attention that `model` runs with; transformers has a method that sets it, and none that returns it."""
    return model.config._attn_implementation


def replace_shared_biases(model: PreTrainedModel, make_biases: Callable[..., tuple[Tensor, Tensor | None] | None]) -> None:
    """Gives the first block of both stacks of a T5 other biases than it would compute; it shares them with the blocks behind it.

    make_biases: takes the first block and the keyword arguments of its call; returns (position bias, cross bias), or None to
    leave them. transformers computes them for positions in the whole sequence, and has no argument for others.
    """

    def replace(block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        biases = make_biases(block, kwargs)
        if biases is None:
            return None
        given = list(args)
        given[POSITION_BIAS] = biases[0]
        if biases[1] is not None:
            given[CROSS_BIAS] = biases[1]
        return tuple(given), kwargs

    for stack in (model.encoder, model.decoder):
        stack.block[0].register_forward_pre_hook(replace, with_kwargs=True)


@contextlib.contextmanager
def head_computes(head: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While this holds, `head` computes `function`: transformers models cannot be asked for hidden states without logits."""
    head.forward = function
    try:
        yield
    finally:
        del head.forward
