"""Everything in which torch, transformers and bitsandbytes are changed for the model that is trained, each with its reason.

What is used here is not the libraries' public interface: tests/model/test_patches.py says in plain words when a new version of
one has moved it.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.integrations import sdpa_attention
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from job.model.cpu_kernels import CpuDropout
from job.system.quick_bitsandbytes import bitsandbytes

ATTENTION_PREFIX = "packed_"
"""Of the names under which transformers finds replaced attentions: packed_sdpa for sdpa."""


def owner_of_float32(auto: type[_BaseAutoModelClass], config: PreTrainedConfig) -> Any:
    """The class, of those that a model is made from, that names layers to keep in float32; None where none does."""
    kinds = getattr(auto._model_mapping.get(type(config), None), "__mro__", ())
    return next((kind for kind in kinds if vars(kind).get("_keep_in_fp32_modules")), None)


@contextlib.contextmanager
def quantised_wo(
    auto: type[_BaseAutoModelClass], config: PreTrainedConfig, quantization: BitsAndBytesConfig | None
) -> Iterator[None]:
    """While this holds, NF4 quantises T5's `wo` as well, 18 % of XL: transformers leaves out what it keeps in float32.

    T5 then casts activations to the type that `wo` is stored in, which must be a float: see `bnb_4bit_quant_storage`.
    """
    owner = owner_of_float32(auto, config)
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
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def keep_expert_capacity(model: nn.Module) -> None:
    """Makes NLLB-MoE's routers forget after each forward pass how many tokens an expert took: an evaluation sets the training's."""
    routers: list[Any] = [module for module in model.modules() if hasattr(module, "moe_eval_capacity_token_fraction")]
    for router in routers:
        router.register_forward_hook(partial(_reset_capacity, capacity=router.expert_capacity))


def _reset_capacity(router: Any, _inputs: tuple, _output: Any, capacity: int | None) -> None:
    router.expert_capacity = capacity


def use_fast_dropout(model: nn.Module) -> None:
    """Makes every dropout of `model`, the adapter's too, a CpuDropout: torch draws one number at a time on a CPU."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CpuDropout


def attention_implementation(model: PreTrainedModel) -> str:
    """Name of the attention that `model` runs with; transformers has a method that sets it, and none that returns it."""
    return model.config._attn_implementation


def own_attention(module: nn.Module, name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The function that an attention `module` calls where its config says `name`, found as the library's own code finds it."""
    library = sys.modules[type(module).__module__]
    return library.ALL_ATTENTION_FUNCTIONS.get_interface(name, getattr(library, "eager_attention_forward", None))


_own_test = sdpa_attention.use_gqa_in_sdpa


def choose_attention_kernels() -> None:
    """Keeps attention on a GPU from kernels that are slow for batches of many lengths, or on older cards.

    cuDNN's, torch's first choice from Hopper on, plans 0.15 s for each shape that it hasn't met (an H100, torch 2.11); the others
    take 0.5 ms. Grouped keys and values, fewer than the queries, are taken by FlashAttention alone, which takes neither float32 nor
    cards before Ampere: there transformers has to repeat them, or torch falls back to a matrix of all scores.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    sdpa_attention.use_gqa_in_sdpa = _takes_grouped_heads


def _takes_grouped_heads(attention_mask: Tensor | None, key: Tensor, value: Tensor) -> bool:
    has_flash = not key.is_cuda or (key.dtype != torch.float32 and torch.cuda.get_device_capability(key.device) >= (8, 0))
    return has_flash and _own_test(attention_mask, key, value)


def replace_attention(model: PreTrainedModel, attention: Callable, mask: Callable) -> Callable[[], None]:
    """Makes every part of `model` call `attention(name, ...)` and `mask(make_mask, ...)` instead of its own; the result undoes it.

    name: of the attention that the part would have called; make_mask: what makes the masks for that.
    """
    found = (getattr(module, "config", None) for module in model.modules())
    before = {id(config): (config, config._attn_implementation) for config in found if isinstance(config, PreTrainedConfig)}
    for config, name in before.values():
        if name is not None:
            ALL_ATTENTION_FUNCTIONS.register(ATTENTION_PREFIX + name, partial(attention, name))
            ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_PREFIX + name, partial(mask, ALL_MASK_ATTENTION_FUNCTIONS[name]))
            config._attn_implementation_internal = ATTENTION_PREFIX + name

    def undo() -> None:
        for config, name in before.values():
            config._attn_implementation_internal = name

    return undo


def replace_forward(module: nn.Module, forward: Callable) -> Callable[[], None]:
    """Makes `module` compute `forward(its own forward, ...)`; the result undoes it."""
    own, before = module.forward, {name: value for name, value in vars(module).items() if name == "forward"}

    @wraps(own)  # its signature is asked for
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return forward(own, *args, **kwargs)

    def undo() -> None:
        del module.forward
        vars(module).update(before)

    module.forward = replaced
    return undo


def replace_bias(attention: Any, make_bias: Callable[..., Tensor]) -> Callable[[], None]:
    """Gives an attention of a T5 that is called with `packing` the bias that `make_bias` returns; the result undoes it.

    make_bias: takes the attention, what computes the bias for two lengths (None for cross-attention, which has none), `packing`
    and the device. transformers computes the bias for positions in the whole sequence, and has no argument for others.
    """
    relative, compute_bias = attention.has_relative_attention_bias, attention.compute_bias

    def begin(_attention: nn.Module, _args: tuple, kwargs: dict[str, Any]) -> None:
        attention.packing = kwargs.get("packing")
        attention.has_relative_attention_bias = relative or attention.packing is not None  # else zeros, tokens x tokens

    def compute(query_length: int, key_length: int, device: torch.device | None = None, past_seen_tokens: int = 0) -> Tensor:
        if attention.packing is None:
            return compute_bias(query_length, key_length, device=device, past_seen_tokens=past_seen_tokens)
        return make_bias(attention, compute_bias if relative else None, attention.packing, device)

    def undo() -> None:
        handle.remove()
        del attention.compute_bias
        attention.has_relative_attention_bias = relative

    attention.compute_bias = compute
    handle = attention.register_forward_pre_hook(begin, with_kwargs=True)
    return undo


@contextlib.contextmanager
def head_computes(head: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While this holds, `head` computes `function`: transformers models cannot be asked for hidden states without logits."""
    head.forward = function
    try:
        yield
    finally:
        del head.forward
