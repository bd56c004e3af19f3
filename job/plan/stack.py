"""The sizes of a row of transformer blocks, counted on its modules and read off its config."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedConfig

from job.model.checkpointing import transformer_blocks
from job.model.targets import all_linear, is_expert, is_mixing

HEADS = ("{}_attention_heads", "num_{}_attention_heads", "num_attention_heads", "num_heads", "n_heads", "n_head")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
"""Names of the number of experts that a token goes through."""
NLLB_MOE = 2
"""The same of NLLB-MoE, whose config does not say it."""


@dataclass(frozen=True)
class Stack:
    """A row of blocks: a decoder, or the encoder before it."""

    layers: int
    width: int
    """Of the residual stream: d_model, hidden_size."""
    inner: int
    """Of the feed-forward's middle: d_ff, intermediate_size; of experts, of all that a token goes through."""
    attention: int
    """Of all query heads together: heads x head size; of what stands in attention's place, its channels."""
    key_value: int
    """Of all key heads together."""
    heads: int
    touched: int
    """Parameters of the matrices that a token is multiplied with; of experts, of those that it goes through."""
    state: int
    """Numbers that a Mamba keeps for each channel and token; 0 of what goes through its tokens in chunks, and of attention."""


def read_stack(part: nn.Module, head: nn.Module, config: PreTrainedConfig, side: str) -> Stack:
    """The sizes of `part`, a model's decoder or encoder ("side").

    head: the output layer, which is not counted. config: what that side's text has.
    """
    blocks, heads = transformer_blocks(part) or _longest_list(part), _first(config, (name.format(side) for name in HEADS))
    width = _first(config, ("hidden_size",)) or matrix(head).shape[1]
    chosen = NLLB_MOE if config.model_type == "nllb-moe" else _first(config, CHOSEN) or 1
    size = _head_size(config, width // heads) if heads else 0
    in_blocks = {layer for block in blocks for layer in all_linear(block).values()}
    around = [layer for layer in all_linear(part).values() if layer is not head and layer not in in_blocks]
    return Stack(
        layers=len(blocks),
        width=width,
        inner=max(_inner(block, config, width, chosen) for block in blocks),
        attention=max(heads * size, *(_channels(block, has_heads=bool(heads)) for block in blocks)),
        key_value=_key_value_heads(config, heads) * size,
        heads=heads,
        touched=sum(_touched(block, config, chosen) for block in blocks) + sum(matrix(layer).numel() for layer in around),
        state=max((decay.shape[1] for decay in decays(part) if decay.dim() == 2), default=0),
    )


def matrix(layer: nn.Module) -> nn.Parameter:
    """The weight of a linear layer or an embedding."""
    return cast(nn.Parameter, layer.weight)


def decays(part: nn.Module) -> list[nn.Parameter]:
    """How fast the states of recurrent blocks decay: (channels, states) in a Mamba, (heads,) in what came after it."""
    return [parameter for name, parameter in part.named_parameters() if name.endswith("A_log")]


def _first(config: PreTrainedConfig, names: Iterable[str]) -> int:
    """The first of these fields that the config has; 0 if it has none."""
    return next((size for name in names if isinstance(size := _read(config, name), int)), 0)


def _read(config: PreTrainedConfig, name: str) -> Any:
    """A field of the config, None if there is none; of one that differs between blocks, as in Gemma 4, the largest."""
    try:
        return getattr(config, name, None)
    except RuntimeError:
        return max(getattr(layer, name) for layer in config.per_layer_config)


def _longest_list(part: nn.Module) -> list[nn.Module]:
    """The blocks of models so old that transformers cannot recompute them: the longest list of modules."""
    lists = [list(module) for module in part.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[part])


def _head_size(config: PreTrainedConfig, usual: int) -> int:
    """The widest of a head's query, key and value; DeepSeek's `head_dim` is that of the rotated part alone."""
    parts = _first(config, ("qk_nope_head_dim",)) + _first(config, ("qk_rope_head_dim",))
    return max(_first(config, ("head_dim", "d_kv")) or usual, parts, _first(config, ("v_head_dim",)))


def _key_value_heads(config: PreTrainedConfig, heads: int) -> int:
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return _first(config, ("num_key_value_heads", "num_kv_heads")) or heads


def _features(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer; GPT-2's Conv1D has its weight the other way round."""
    rows, columns = matrix(layer).shape
    return (columns, rows) if isinstance(layer, nn.Linear) else (rows, columns)


def _inner(block: nn.Module, config: PreTrainedConfig, width: int, chosen: int) -> int:
    """Inputs of the feed-forward's last layer, and of those of as many experts as are chosen."""
    dense, one_expert = 0, 0
    for name, layer in all_linear(block).items():
        inputs, outputs = _features(layer)
        if outputs == width and not is_mixing(name):
            dense, one_expert = (dense, max(one_expert, inputs)) if is_expert(name) else (max(dense, inputs), one_expert)
    if any(is_expert(name) and parameter.dim() == 3 for name, parameter in block.named_parameters()):
        one_expert = _first(config, ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size"))
    return dense + chosen * one_expert


def _channels(block: nn.Module, has_heads: bool) -> int:
    """Inputs of the last layer of a state space; where a model has no attention heads at all, of what stands in their place."""
    return max(
        (
            _features(layer)[0]
            for name, layer in all_linear(block).items()
            if is_mixing(name) and (not has_heads or hasattr(block.get_submodule(name.rpartition(".")[0]), "A_log"))
        ),
        default=0,
    )


def _touched(block: nn.Module, config: PreTrainedConfig, chosen: int) -> int:
    """Parameters of the matrices of a block that a token is multiplied with."""
    of_experts = sum(parameter.numel() for name, parameter in block.named_parameters() if is_expert(name) and parameter.dim() > 1)
    experts = _first(config, ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")) or chosen
    others = sum(matrix(layer).numel() for name, layer in all_linear(block).items() if not is_expert(name))
    return others + math.ceil(of_experts * min(1.0, chosen / experts))
