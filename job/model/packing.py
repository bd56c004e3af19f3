"""Rows of a batch one after another, without padding: only attention, where rows must not see each other, spreads them out.

Exact for every model whose positions are relative (T5's bias depends on j - i alone) or given (`position_ids`). No fork: an
attention function of transformers' own registry, and for T5 a hook that hands the first block its bias for one row, not the pack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BatchEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from job.labels import IGNORED
from job.model.cpu_dropout import attend
from job.model.decoder_inputs import decoder_start_token, shift_right
from job.model.patches import attention_implementation, replace_shared_biases
from job.model.positions import read_positions

PACKED = "packed_rows"
"""Name of the attention in transformers' registry; without `packing` it is SDPA."""
PAD_TO_MULTIPLE_OF = 8

Collator = Callable[[Sequence[dict[str, Any]]], BatchEncoding]


def can_pack(config: PreTrainedConfig) -> bool:
    """Whether models like this may take packed rows: T5s, whose biases are known here, and causal ones; others are not tried."""
    return not config.is_encoder_decoder or config.model_type in ("t5", "mt5")


def collator(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Collator:
    """What makes the batches of `model`: packed ones if it was made to accept these, else padded ones."""
    return PackingCollator(model) if attention_implementation(model) == PACKED else padding_collator(model, tokenizer)


def padding_collator(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Collator:
    """What makes padded batches."""
    return PaddingCollator(model, tokenizer)


@dataclass(frozen=True)
class PackedRows:
    """Where the tokens of packed rows stand in a grid of rows x longest row."""

    mask: Tensor
    """(rows, longest), 1 where there is a token."""
    slots: Tensor
    """(tokens,), int64: place of each token in the flattened grid."""

    def spread(self, packed: Tensor) -> Tensor:
        """(1, heads, tokens, width) -> (rows, heads, longest, width), zero where there is no token."""
        _, heads, tokens, width = packed.shape
        flat = packed.transpose(1, 2).reshape(tokens, heads * width)
        grid = flat.new_zeros(self.mask.numel(), heads * width).index_copy(0, self.slots, flat)
        return grid.view(*self.mask.shape, heads, width).transpose(1, 2)

    def gather(self, grid: Tensor) -> Tensor:
        """(rows, longest, heads, width) -> (1, tokens, heads, width)."""
        return grid.flatten(0, 1).index_select(0, self.slots).unsqueeze(0)


@dataclass(frozen=True)
class Packing:
    """The rows of a packed batch; `target` is None for causal models."""

    source: PackedRows
    target: PackedRows | None

    def rows_of(self, decoder: bool) -> PackedRows:
        """Where the tokens are that an encoder-decoder's decoder, or its encoder, or a causal model computes."""
        return self.target if decoder and self.target else self.source


class PaddingCollator:
    """Makes one batch of rows of `input_ids` and `labels`, padded on the right, whatever the tokenizer's file says.

    The batch: `input_ids`, `attention_mask`, `labels` and an encoder-decoder's `decoder_input_ids`, (rows, longest) each.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.pad_token, self.positions = tokenizer.pad_token_id, read_positions(model.config)
        self.first_token = decoder_start_token(model) if model.config.is_encoder_decoder else None

    def __call__(self, rows: Sequence[dict[str, Any]]) -> BatchEncoding:
        sources, labels = [list(row["input_ids"]) for row in rows], [list(row["labels"]) for row in rows]
        batch = {
            "input_ids": _padded(sources, self.pad_token, self.positions.source),
            "attention_mask": _padded([[1] * len(source) for source in sources], 0, self.positions.source),
            "labels": _padded(labels, IGNORED, self.positions.target),
        }
        if self.first_token is not None:
            shifted = [shift_right(answer, self.first_token, self.pad_token) for answer in labels]
            batch["decoder_input_ids"] = _padded(shifted, self.pad_token, self.positions.target)
        return BatchEncoding(batch)


def _padded(rows: list[list[int]], value: int, positions: int | None) -> Tensor:
    """`rows` of one length, a multiple of PAD_TO_MULTIPLE_OF where the model has positions for that."""
    longest = max(map(len, rows))
    wanted = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    length = max(longest, min(wanted, positions or wanted))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


class PackingCollator:
    """Makes one packed batch of rows of `input_ids` and `labels`.

    The batch: `input_ids` and `labels` (1, tokens), `attention_mask` (rows, longest) and `slots` (tokens,) of the inputs; then
    `decoder_input_ids`, `decoder_attention_mask` and `decoder_slots` of the answers, or a causal model's `position_ids`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.start_token = decoder_start_token(model) if model.config.is_encoder_decoder else 0
        self.pad_token = model.generation_config.pad_token_id or 0
        self.seq2seq = model.config.is_encoder_decoder

    def __call__(self, rows: Sequence[dict[str, Any]]) -> BatchEncoding:
        sources, labels = [row["input_ids"] for row in rows], [row["labels"] for row in rows]
        mask, slots = _grid(sources)
        batch: dict[str, Tensor] = {
            "attention_mask": mask,
            "slots": slots,
            "input_ids": _joined(sources),
        }  # the number of rows is read off its first tensor
        if not self.seq2seq:
            separated = [[IGNORED, *answer[1:]] for answer in labels]  # no row answers for the one before it
            batch |= {"labels": _joined(separated), "position_ids": _joined([range(len(source)) for source in sources])}
            return BatchEncoding(batch)
        mask, slots = _grid(labels)
        shifted = [shift_right(answer, self.start_token, self.pad_token) for answer in labels]
        batch |= {"labels": _joined(labels), "decoder_input_ids": _joined(shifted)}
        return BatchEncoding(batch | {"decoder_attention_mask": mask, "decoder_slots": slots})


def _joined(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([[token for row in rows for token in row]])


def _grid(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).long()
    return mask, mask.flatten().nonzero().squeeze(1)


def is_packed(batch: dict[str, Any]) -> bool:
    """Whether `batch` is of a PackingCollator."""
    return "slots" in batch


def model_inputs(batch: dict[str, Tensor]) -> dict[str, Any]:
    """What a model takes for a batch, without the labels; for a packed one it must `accept_packed`."""
    if not is_packed(batch):
        return {name: tensor for name, tensor in batch.items() if name != "labels"}
    target = None
    if "decoder_slots" in batch:
        target = PackedRows(batch["decoder_attention_mask"], batch["decoder_slots"])
    no_mask = torch.zeros(1, 1, 1, 1, device=batch["input_ids"].device)  # 4-D: transformers makes none of its own
    inputs: dict[str, Any] = {name: batch[name] for name in ("input_ids", "decoder_input_ids", "position_ids") if name in batch}
    inputs |= {"attention_mask": no_mask, "packing": Packing(PackedRows(batch["attention_mask"], batch["slots"]), target)}
    return inputs | ({"decoder_attention_mask": no_mask} if target else {"use_cache": False})


def accept_packed(model: PreTrainedModel) -> None:
    """Makes `model` take packed batches, beside padded ones."""
    ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(PACKED, sdpa_mask)
    model.set_attn_implementation(PACKED)
    if model.config.is_encoder_decoder:
        replace_shared_biases(model, _row_biases)


def _row_biases(block: Any, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None] | None:
    """The biases that all blocks of a T5's stack share, masks included, made once a step for rows instead of the pack.

    Position bias: (rows or 1, heads, longest, longest); the decoder's cross bias: (rows, 1, 1, longest), bool.
    """
    packing: Packing | None = kwargs.get("packing")
    if packing is None:
        return None
    attention = block.layer[0].SelfAttention
    mask = packing.rows_of(decoder=block.is_decoder).mask
    longest = mask.shape[1]
    bias = attention.compute_bias(longest, longest, device=mask.device)
    if block.is_decoder:  # what follows a row is behind its last token: causality alone hides it
        seen = torch.ones(longest, longest, dtype=torch.bool, device=mask.device).tril()[None, None]
        cross_bias = packing.source.mask[:, None, None, :].bool()
    else:
        seen, cross_bias = mask[:, None, None, :].bool(), None
    return torch.where(seen, bias, torch.finfo(bias.dtype).min), cross_bias


def packed_attention(  # noqa: PLR0913  the library's own signature
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, packing: Packing | None = None,
    position_bias: Tensor | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """SDPA within each row. query, key, value: (1, heads, tokens, width); the result is (1, tokens, heads, width)."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, position_bias=position_bias, **kwargs)
    decodes = packing.target is not None and bool(module.is_decoder)
    query_rows, key_rows = packing.rows_of(decodes), packing.rows_of(decodes and bool(module.is_causal))
    query, key, value = query_rows.spread(query), key_rows.spread(key), key_rows.spread(value)
    if query.device.type == "cpu" and position_bias is not None and kwargs["dropout"]:
        found = attend(query, key, value, position_bias, kwargs["dropout"])
    else:
        found, _ = sdpa_attention_forward(module, query, key, value, position_bias, **kwargs)
    return query_rows.gather(found), None
