"""A model that computes packed rows: attention alone spreads them out, and is then the model's own, with the masks of rows.

So windows, sinks, caps and chunks are the library's code, called with (rows, heads, longest, width) as for a padded batch. What
else depends on a token's place is made for rows too: learned and sinusoidal positions, and the relative biases of T5s.
"""

import contextlib
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from job.model.cpu_kernels import attend
from job.model.packing import PackedRows, Packing
from job.model.patches import own_attention, replace_attention, replace_bias, replace_forward

ROW_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "moe", "mlp"}
"""Kinds of layers, in transformers' words, that see a token's own row through attention alone."""
KNOWN_TENSORS = {"position_bias", "position_ids", "s_aux"}
"""Arguments of attention that are right for rows: made here, not used by it, or a number a head (sinks)."""


class CannotPack(Exception):
    """Why a model takes no packed rows."""


@dataclass
class PackedStack:
    """What a stack of blocks computes: an encoder, a decoder or a causal model."""

    rows: PackedRows
    source: PackedRows
    """What a decoder's cross-attention looks at; without such, the same rows."""
    attended: bool = False
    """Whether an attention has asked for the rows."""


OWN_ATTENTION = "its attention is one of its own, which transformers doesn't let be replaced"

_packed: ContextVar[bool] = ContextVar("packed", default=False)
"""Whether the model was called with a packed batch."""
_running: ContextVar[PackedStack | None] = ContextVar("running", default=None)
"""The stack in whose forward pass masks and positions are made; its blocks, which may be recomputed, get it as an argument."""


def accept_packed(model: PreTrainedModel) -> Callable[[], None]:
    """Makes `model` take packed batches, beside padded ones; the result undoes it. Raises CannotPack."""
    _check_layers(model)
    with contextlib.ExitStack() as undo:
        undo.callback(replace_attention(model, packed_attention, row_mask))
        stacks: dict[nn.Module, bool] = {model: False}
        if model.config.is_encoder_decoder:
            undo.callback(replace_forward(model, _run_model))
            stacks = {model.get_encoder(): False, model.get_decoder(): True}
        for stack, is_decoder in stacks.items():
            undo.callback(replace_forward(stack, partial(_run, is_decoder=is_decoder)))
            for name, module in stack.named_modules():
                if name.endswith("embed_positions") and "position_ids" not in inspect.signature(stack.forward).parameters:
                    undo.callback(replace_forward(module, _row_positions))
                if hasattr(module, "compute_bias"):
                    undo.callback(replace_bias(module, _row_bias))
        return undo.pop_all().close


def _check_layers(model: PreTrainedModel) -> None:
    """Raises CannotPack for a model that is known to mix the rows of a pack, or to treat them by their number."""
    for config in (model.config, model.config.get_text_config()):
        if strange := sorted(set(getattr(config, "layer_types", None) or ()) - ROW_LAYERS):
            raise CannotPack(f"its {', '.join(strange)} layers look along the pack, from one row into the next")
        if getattr(config, "expert_capacity", None):
            raise CannotPack(f"its experts take {config.expert_capacity} tokens (expert_capacity), whether of one row or of a pack")
    if any(getattr(module, "_is_stateful", False) for module in model.modules()):
        raise CannotPack("it carries a state from token to token, so from one row into the next")


def _run_model(forward: Callable, *args: Any, **kwargs: Any) -> Any:
    token = _packed.set("packing" in kwargs)
    try:
        return forward(*args, **kwargs)
    finally:
        _packed.reset(token)


def _run(forward: Callable, *args: Any, is_decoder: bool, packing: Packing | None = None, **kwargs: Any) -> Any:
    """What a stack's `forward` puts out. Raises CannotPack where the rows don't reach its attention; an error says so in a note."""
    if packing is None:
        if _packed.get():
            raise CannotPack(OWN_ATTENTION)
        return forward(*args, **kwargs)
    running = PackedStack(packing.target if is_decoder and packing.target else packing.source, packing.source)
    token = _running.set(running)
    try:
        output = forward(*args, packing=running, **kwargs)
    except Exception as error:
        if not running.attended:
            error.add_note(OWN_ATTENTION)
        raise
    finally:
        _running.reset(token)
    if not running.attended:
        raise CannotPack(OWN_ATTENTION)
    return output


def row_mask(
    make_mask: Callable, *, attention_mask: Tensor | None = None, allow_is_causal_skip: bool = True, **form: Any
) -> Tensor | None:
    """The mask of the library's `make_mask`, for rows where a packed stack is running: (rows, 1, longest query, longest key)."""
    running = _running.get()
    if running is None:
        return make_mask(attention_mask=attention_mask, allow_is_causal_skip=allow_is_causal_skip, **form)
    keys = running.source if attention_mask is running.source.mask else running.rows
    (form["batch_size"], form["q_length"]), form["kv_length"] = running.rows.mask.shape, keys.mask.shape[1]
    hidden_anyway = allow_is_causal_skip  # only causal masks are skipped, and what follows a row is behind its last token
    return make_mask(
        attention_mask=None if hidden_anyway else keys.mask,
        allow_is_causal_skip=allow_is_causal_skip,
        **form | {"allow_is_bidirectional_skip": False},  # would wait for the GPU to look at the mask
    )


def packed_attention(
    name: str, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The attention `name` of `module` within each row. query, key, value: (1, heads, tokens, width).

    Returns (1, tokens, heads, width), and no weights. Raises CannotPack.
    """
    own = own_attention(module, name)
    packing: PackedStack | None = kwargs.pop("packing", None)
    if packing is None:
        if _running.get():
            raise CannotPack(OWN_ATTENTION)
        return own(module, query, key, value, attention_mask, **kwargs)
    packing.attended = True
    if unknown := [name for name, given in kwargs.items() if isinstance(given, Tensor) and name not in KNOWN_TENSORS]:
        raise CannotPack(f"its attention takes {', '.join(unknown)}")
    keys = _key_rows(module, key, packing)
    query, key, value = packing.rows.spread(query), _spread(keys, key), _spread(keys, value)
    bias: Tensor | None = kwargs.pop("position_bias", None)
    if bias is not None:  # made here: the mask is in it
        bias = attention_mask = bias.to(query.dtype)
    if own is sdpa_attention_forward and _is_slow(module, query, attention_mask, kwargs):
        scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
        found = attend(query, key, value, attention_mask, kwargs.get("dropout", 0.0), scale)
    else:
        found, _ = own(module, query, key, value, attention_mask, **kwargs)
    return packing.rows.gather(found), None


def _is_slow(module: nn.Module, query: Tensor, attention_mask: Tensor | None, kwargs: dict[str, Any]) -> bool:
    """Whether torch's attention takes longer than plain products: on a CPU with dropout, or in bfloat16, where it takes 1.4 to 4
    times as long, forward and backward. Attention without a mask has to be causal."""
    is_causal = kwargs.get("is_causal")
    has_order = attention_mask is not None or (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    return query.device.type == "cpu" and has_order and bool(kwargs.get("dropout") or query.dtype == torch.bfloat16)


def _key_rows(module: nn.Module, key: Tensor, packing: PackedStack) -> list[PackedRows]:
    """Whose keys an attention was given: of the stack's own rows, of the source, or, merged in one attention, of both."""
    if getattr(module, "is_causal", False):
        return [packing.rows]
    both = [packing.rows, packing.source]
    return both if key.shape[2] == sum(len(rows.slots) for rows in both) else [packing.source]


def _spread(rows: list[PackedRows], packed: Tensor) -> Tensor:
    if len(rows) == 1:
        return rows[0].spread(packed)
    parts = packed.split([len(part.slots) for part in rows], dim=2)
    return torch.cat([part.spread(tokens) for part, tokens in zip(rows, parts, strict=True)], dim=2)


def _row_positions(embed: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """What an embedding of positions puts out for rows, called as for a padded batch: (1, tokens, width)."""
    running = _running.get()
    if running is None:
        return embed(*args, **kwargs)
    rows = running.rows
    count, longest = rows.mask.shape

    def unpacked(given: object) -> object:
        if isinstance(given, tuple):  # a shape
            return (count, longest)
        if isinstance(given, Tensor) and given.dim() == 1:  # positions in the pack
            return given[:longest]
        return rows.spread_tokens(given) if isinstance(given, Tensor) else given

    found = embed(*map(unpacked, args), **{name: unpacked(given) for name, given in kwargs.items()})
    return rows.gather(found.expand(count, longest, -1))


def _row_bias(attention: nn.Module, compute_bias: Callable[..., Tensor] | None, packing: PackedStack, device: Any) -> Tensor:
    """The relative bias of a T5 with its mask: (rows or 1, heads, longest, longest); of its cross-attention, that has none, a mask.

    All blocks behind a T5's first share it, so that both are put together once a step.
    """
    if compute_bias is None:
        hidden = ~packing.source.mask[:, None, None, :]
        return torch.zeros(hidden.shape, device=device).masked_fill(hidden, torch.finfo(torch.float32).min)
    longest = packing.rows.mask.shape[1]
    bias = compute_bias(longest, longest, device=device)
    if attention.is_causal:  # what follows a row is behind its last token: causality alone hides it
        seen = torch.ones(longest, longest, dtype=torch.bool, device=bias.device).tril()[None, None]
    else:
        seen = packing.rows.mask[:, None, None, :]
    return aligned(torch.where(seen, bias, torch.finfo(bias.dtype).min))


def aligned(bias: Tensor) -> Tensor:
    """`bias` laid out so that CUDA's attention kernels read it as it is: they copy, in every block, one whose last places are not
    side by side or whose lines don't begin at a multiple of 8. On an H100 that took four to eight times as long.
    """
    length = bias.shape[-1]
    return bias.new_empty(*bias.shape[:-1], -(-length // 8) * 8)[..., :length].copy_(bias)
