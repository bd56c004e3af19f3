"""What a few telling rows give each alone, without padding: what half precision, padded and packed rows are compared with."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.data.token_lengths import token_lengths
from job.model.checkpointing import recomputing_in_evaluation
from job.model.objective import Objective
from job.model.packing import Collator, padding_collator
from job.preflight.full_precision import in_float32
from job.preflight.memory import longest_row
from job.system.gpu_errors import one_name_for_full_memory
from job.training.step import Rows

LARGEST_SCALE = 2.0**16
"""Of the loss, as the loss scaler begins; small gradients would vanish in float16 without."""
MOST_KEPT = 2**26
"""Numbers of a gradient; larger ones, as of a trained lm_head, are computed again when they are asked for again."""
LEAST = torch.finfo(torch.float32).tiny
"""What is divided by where a loss or a gradient is 0: equal ones are then no distance apart, others an endless one."""
LossAndGradient = tuple[float, Tensor]


@dataclass(frozen=True)
class Measured:
    """What a model gives for a batch."""

    loss: float
    """The mean a label."""
    gradient: Tensor
    """Of all that is trained, as one vector, in the machine's memory: a card may be nearly full."""
    overflowing: str | None = None
    """The first module whose output is not finite; looked for in the type of the weights alone."""

    def distance(self, other: "Measured") -> tuple[float, float]:
        """How far loss and gradient are off from the other's, relative to these."""
        turned = (self.gradient - other.gradient).norm() / other.gradient.norm().clamp(min=LEAST)
        return abs(self.loss - other.loss) / max(abs(other.loss), LEAST), turned.item()


class Alone:
    """The telling rows of a table, and what a model gives for each: computed when it is first asked for, as a rule once."""

    def __init__(self, model: PeftModel, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.rows, self.collate = model, rows, padding_collator(model, tokenizer)
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...], bool], Measured] = {}

    def given(self, row: dict[str, list[int]], wide: bool) -> Measured:
        """What the model gives for `row`, without dropout. wide: in float32. Raises torch.OutOfMemoryError."""
        key = (tuple(row["input_ids"]), tuple(row["labels"]), wide)
        if key in self._known:
            return self._known[key]
        with evaluating(self.model):
            found = measure(self.model, without_padding(self.collate, row), wide)
        if len(found.gradient) <= MOST_KEPT:
            self._known[key] = found
        return found


@one_name_for_full_memory()
def measure(model: PeftModel, batch: BatchEncoding, wide: bool) -> Measured:
    """What `model` gives for `batch`, in float32 or in the type of its weights. Raises torch.OutOfMemoryError."""
    batch, objective = batch.to(model.device), Objective(model)
    if wide:
        with in_float32(model) as widened:
            loss, gradient = loss_and_gradient(model, batch, objective, widened)
        return Measured(loss, gradient.cpu())
    with _overflows(model) as first:
        loss, gradient = loss_and_gradient(model, batch, objective)
    return Measured(loss, gradient.cpu(), first())


def telling_rows(model: PeftModel, rows: Dataset) -> Rows:
    """The longest input with the longest answer, and of the rows the one with the shortest input, last, and of the others the one
    with the shortest answer.

    So one of them is shorter than the first in its input, and one in its answer, wherever the rows of the table differ in that.
    """
    short, answers = int(token_lengths(rows, "input_ids").argmin()), token_lengths(rows, "labels").argsort(kind="stable")
    places = [*[int(place) for place in answers[:2] if place != short][:1], short]
    return [longest_row(model, rows), *({name: rows[place][name] for name in ("input_ids", "labels")} for place in places)]


def without_padding(collate: Collator, row: dict[str, list[int]]) -> BatchEncoding:
    """A padded batch of `row` alone, cut to its length."""
    batch = collate([row])
    ends = {"input_ids": len(row["input_ids"]), "labels": len(row["labels"])}
    ends |= {"attention_mask": ends["input_ids"], "decoder_input_ids": ends["labels"]}
    cut = {name: batch[name][:, :end] for name, end in ends.items() if name in batch}
    return BatchEncoding(cut | {"labelled": batch["labelled"]})  # in the one row places stay what they are


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While this holds, `model` drops nothing out."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@one_name_for_full_memory()
def loss_and_gradient(
    model: PeftModel, batch: BatchEncoding, objective: Objective, within: Callable[[], Any] = contextlib.nullcontext
) -> LossAndGradient:
    """Loss, and gradient of the adapter as one vector.

    within: the mode that this is called in, for blocks that are recomputed.
    Takes no more memory than a training step, which recomputes the same blocks and has no more logits at once.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with recomputing_in_evaluation(model, within):
        loss = objective(model, batch) / max(1, len(batch["labelled"]))
    scale, gradient = LARGEST_SCALE, torch.full((1,), float("nan"))
    while scale >= 1:
        gradients = torch.autograd.grad(loss * scale, trained, retain_graph=scale > 1, materialize_grads=True)
        gradient = torch.cat([part.flatten().float() for part in gradients]) / scale
        if torch.isfinite(gradient).all():
            break
        scale /= 16
    return loss.item(), gradient


@contextlib.contextmanager
def _overflows(model: nn.Module) -> Iterator[Callable[[], str | None]]:
    """While this holds, looks at what modules put out; gives what tells which was the first to put out something not finite."""
    names: list[str] = []
    finite: list[Tensor] = []

    def watch(name: str) -> Callable:
        def look(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                names.append(name.removeprefix("base_model.model."))
                finite.append(torch.isfinite(output.detach()).all())

        return look

    def first() -> str | None:
        found = torch.stack(finite).tolist() if finite else []  # all at once: a GPU is waited for once
        return names[found.index(False)] if False in found else None

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        yield first
    finally:
        for handle in handles:
            handle.remove()
