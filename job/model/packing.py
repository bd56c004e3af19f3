"""Batches of rows one after another, without padding. What computes them is in `job.model.packed_attention`."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from job.labels import IGNORED
from job.model.decoder_inputs import decoder_start_token, shift_right
from job.model.patches import ATTENTION_PREFIX, attention_implementation
from job.model.positions import read_positions

PAD_TO_MULTIPLE_OF = 8
OF_THE_LOSS = ("labels", "labelled")
"""What a batch holds for the loss alone."""

Collator = Callable[[Sequence[dict[str, Any]]], BatchEncoding]


def accepts_packed(model: PreTrainedModel) -> bool:
    """Whether `model` takes packed batches."""
    return attention_implementation(model).startswith(ATTENTION_PREFIX)


def collator(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Collator:
    """What makes the batches of `model`: packed ones if it was made to accept these, else padded ones."""
    return PackingCollator(model) if accepts_packed(model) else padding_collator(model, tokenizer)


def padding_collator(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Collator:
    """What makes padded batches."""
    return PaddingCollator(model, tokenizer)


@dataclass(frozen=True)
class PackedRows:
    """Where the tokens of packed rows stand in a grid of rows x longest row."""

    mask: Tensor
    """(rows, longest), bool: where there is a token."""
    slots: Tensor
    """(tokens,), int64: place of each token in the flattened grid."""

    def spread(self, packed: Tensor) -> Tensor:
        """(1, heads, tokens, width) -> (rows, heads, longest, width), zero where there is no token."""
        return self.spread_tokens(packed.transpose(1, 2)).transpose(1, 2)

    def spread_tokens(self, packed: Tensor) -> Tensor:
        """(1, tokens, ...) -> (rows, longest, ...), zero where there is no token."""
        flat = packed.reshape(packed.shape[1], -1)
        grid = flat.new_zeros(self.mask.numel(), flat.shape[1]).index_copy_(0, self.slots, flat)
        return grid.view(*self.mask.shape, *packed.shape[2:])

    def gather(self, grid: Tensor) -> Tensor:
        """(rows, longest, ...) -> (1, tokens, ...)."""
        return grid.flatten(0, 1).index_select(0, self.slots).unsqueeze(0)


@dataclass(frozen=True)
class Packing:
    """The rows of a packed batch; `target` is None for causal models."""

    source: PackedRows
    target: PackedRows | None


class PaddingCollator:
    """Makes one batch of rows of `input_ids` and `labels`, padded on the right, whatever the tokenizer's file says.

    The batch: `input_ids`, `attention_mask`, `labels` and an encoder-decoder's `decoder_input_ids`, (rows, longest) each, and
    `labelled`, see `labelled_places`.
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
        return BatchEncoding(batch | {"labelled": labelled_places(batch["labels"], shift=self.first_token is None)})


def labelled_places(labels: Tensor, shift: bool) -> Tensor:
    """Where `labels`, (rows, tokens) flattened, have a label: (labels,), int64. Found here, as a GPU would have to wait for it.

    shift: whether a token is answered for by the one before it; none then answers for the first of a row.
    """
    places = (labels != IGNORED).flatten().nonzero().squeeze(1)
    return places[places % labels.shape[1] > 0] if shift else places


def _padded(rows: list[list[int]], value: int, positions: int | None) -> Tensor:
    """`rows` of one length, a multiple of PAD_TO_MULTIPLE_OF where the model has positions for that."""
    longest = max(map(len, rows))
    wanted = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    length = max(longest, min(wanted, positions or wanted))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


class PackingCollator:
    """Makes one packed batch of rows of `input_ids` and `labels`.

    The batch: `input_ids` and `labels` (1, tokens), `attention_mask` (rows, longest) and `slots` (tokens,) of the inputs; of an
    encoder-decoder's answers `decoder_input_ids`, `decoder_attention_mask` and `decoder_slots`; `labelled`, see `labelled_places`.
    Positions within the rows, `position_ids` and `decoder_position_ids`, where the model takes them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.start_token = decoder_start_token(model) if model.config.is_encoder_decoder else 0
        self.pad_token = model.generation_config.pad_token_id or 0
        self.seq2seq = model.config.is_encoder_decoder
        takes = inspect.signature((model.get_base_model() if hasattr(model, "get_base_model") else model).forward).parameters
        self.positions = [name for name in ("position_ids", "decoder_position_ids") if name in takes]

    def __call__(self, rows: Sequence[dict[str, Any]]) -> BatchEncoding:
        sources, labels = [row["input_ids"] for row in rows], [row["labels"] for row in rows]
        mask, slots = _grid(sources)
        batch: dict[str, Tensor] = {
            "attention_mask": mask,
            "slots": slots,
            "input_ids": _joined(sources),
        }  # the number of rows is read off its first tensor
        if self.seq2seq:
            mask, slots = _grid(labels)
            shifted = [shift_right(answer, self.start_token, self.pad_token) for answer in labels]
            batch |= {"labels": _joined(labels), "decoder_input_ids": _joined(shifted)}
            batch |= {"decoder_attention_mask": mask, "decoder_slots": slots}
        else:
            batch["labels"] = _joined([[IGNORED, *answer[1:]] for answer in labels])  # no row answers for the one before it
        for name in self.positions:
            batch[name] = _joined([range(len(row)) for row in (labels if name.startswith("decoder") else sources)])
        return BatchEncoding(batch | {"labelled": labelled_places(batch["labels"], shift=not self.seq2seq)})


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
        return {name: tensor for name, tensor in batch.items() if name not in OF_THE_LOSS}
    masks = {name: batch[name].bool() for name in ("attention_mask", "decoder_attention_mask") if name in batch}
    target = PackedRows(masks["decoder_attention_mask"], batch["decoder_slots"]) if "decoder_slots" in batch else None
    packing = Packing(PackedRows(masks["attention_mask"], batch["slots"]), target)
    inputs = {name: tensor for name, tensor in batch.items() if name not in (*OF_THE_LOSS, "slots", "decoder_slots")}
    return inputs | masks | {"packing": packing, "use_cache": False}
