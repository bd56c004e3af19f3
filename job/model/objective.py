"""What a training step minimises: summed cross-entropy of a batch, padded or packed, with the logits of few tokens at a time."""

from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from job.model.kernels import is_frozen_linear
from job.model.loss import at_least_float32, row_losses, summed_cross_entropy
from job.model.packing import model_inputs
from job.model.patches import head_computes
from job.system.gpu_errors import is_gpu_failure, one_name_for_full_memory
from job.system.onednn import linear

CHUNK_BYTES = 2**26
"""What the logits that are there at once may take, in float32."""
SCALE = 256.0
"""Of the gradient while it is in half precision, where it would vanish otherwise; a power of two, so exact."""


class Objective:
    """Summed cross-entropy over the labels of a batch.

    Only tokens that have a label meet the output head, a chunk at a time, and the gradient is computed on the way: all logits,
    tokens x vocabulary in float32, are never there. Where the head is trained, or is not the model's last step, they are.
    """

    def __init__(self, model: PeftModel) -> None:
        self.shift = not model.config.is_encoder_decoder
        if model not in _heads:
            _heads[model] = frozen_last_head(model)
        self.head = _heads[model]

    def __call__(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The sum, in float32 at least. `model` is the one that this was made for, or a wrapper of it; `batch` is of a collator."""
        if self.head is None:
            return summed_cross_entropy(model(**model_inputs(batch)).logits, batch["labels"], self.shift)
        return chunked_cross_entropy(*self._labelled(self.head, model, batch), self.head)

    def of_rows(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The mean a label for each row of a padded batch: (rows,)."""
        labels = batch["labels"]
        if self.head is None:
            return row_losses(model(**model_inputs(batch)).logits, labels, self.shift)
        counts = torch.bincount(batch["labelled"] // labels.shape[1], minlength=len(labels)).tolist()
        parts = zip(*(found.split(counts) for found in self._labelled(self.head, model, batch)), strict=True)
        return torch.stack([chunked_cross_entropy(hidden, found, self.head) / max(1, len(found)) for hidden, found in parts])

    def _labelled(self, head: nn.Linear, model: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What `head` is given for the tokens that have a label, (labels, width), and these labels."""
        with headless(head):
            hidden = model(**model_inputs(batch)).logits.to(head.weight.dtype)  # Mamba casts what comes out of its head
        answered, answering = batch["labelled"], batch["labelled"] - 1 if self.shift else batch["labelled"]
        return hidden.flatten(0, 1).index_select(0, answering), batch["labels"].flatten().index_select(0, answered)


_heads: WeakKeyDictionary[PeftModel, nn.Linear | None] = WeakKeyDictionary()
"""What `frozen_last_head` found of models, by two passes of each."""


def chunked_cross_entropy(hidden: Tensor, labels: Tensor, head: nn.Linear) -> Tensor:
    """Sum of the cross-entropies of what `head`, frozen, makes of `hidden`. hidden: (tokens, width); labels: (tokens,), int64."""
    return _ChunkedCrossEntropy.apply(hidden, labels, head.weight, head.bias)


def chunk_tokens(vocabulary: int) -> int:
    """Tokens whose logits are there at once."""
    return max(1, CHUNK_BYTES // (4 * vocabulary))


@one_name_for_full_memory()
def frozen_last_head(model: PeftModel) -> nn.Linear | None:
    """The output head, if it is frozen and what it puts out is what the model puts out, neither capped nor scaled."""
    head = model.get_output_embeddings()
    if not is_frozen_linear(head):
        return None
    inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.long, device=model.device)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    logits = 1000 * torch.randn(1, 2, head.out_features, generator=torch.Generator().manual_seed(0)).to(
        head.weight.device, head.weight.dtype
    )
    was_training, seen = model.training, []

    def keep(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return logits

    model.eval()
    try:
        with torch.no_grad(), head_computes(head, keep):
            is_last = torch.equal(model(**inputs).logits.to(logits), logits)
        with torch.no_grad(), headless(head):
            return head if is_last and torch.equal(model(**inputs).logits, seen[0]) else None
    except RuntimeError as error:  # a model that adds to its logits cannot add to what has another width
        if is_gpu_failure(error):
            raise
        return None
    finally:
        model.train(was_training)


def headless(head: nn.Linear) -> AbstractContextManager[None]:
    """While this holds, `head` puts out what it is given."""
    return head_computes(head, lambda hidden: hidden)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Keeps the gradient of `hidden` alone for the backward pass. weight: (vocabulary, width)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wide = at_least_float32(hidden)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden)
        tokens = chunk_tokens(len(weight))
        for part, answers, slope in zip(hidden.split(tokens), labels.split(tokens), gradient.split(tokens), strict=True):
            log_likelihood = linear(part, weight, bias).to(wide).log_softmax(-1)
            total += F.nll_loss(log_likelihood, answers, reduction="sum")
            if not ctx.needs_input_grad[0]:  # an evaluation
                continue
            excess = log_likelihood.exp_()
            excess[torch.arange(len(answers), device=excess.device), answers] -= 1
            slope.copy_(linear(excess.mul_(SCALE).to(weight.dtype), weight.T))
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (slope / SCALE).to(gradient.dtype), None, None, None
