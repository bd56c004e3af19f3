"""Whether a model is trained on packed rows: where they are what padded rows are, and on a GPU where they are faster too."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.data.token_lengths import token_lengths
from job.errors import first_line
from job.model.objective import Objective
from job.model.packed_attention import CannotPack, accept_packed
from job.model.packing import Collator, PackingCollator, padding_collator
from job.model.sharding import is_sharded
from job.preflight.memory import preserved_state
from job.preflight.precision import HALF, in_float32, loss_and_gradient
from job.system.hardware import free_memory
from job.training.order import Order

log = logging.getLogger(__name__)

TOLERANCES = 1e-4, 1e-3
"""Of loss and gradient in float32, which stays well within: one row that sees another is off by more than a hundred times that."""
HALF_TOLERANCES = 0.01, 0.1
"""The same in half precision, beside ROUNDING times what padded rows are off from float32."""
ROUNDING = 2
LEAST = torch.finfo(torch.float32).tiny
"""What is divided by where a loss or a gradient is 0: equal ones are then no distance apart, others an endless one."""
CPU_LOGITS_BYTES = 2**30
"""Of the logits of all telling rows: a CPU that runs out of memory ends the job, instead of raising what could be caught."""
TIMED_BATCHES, ROUNDS = 3, 4


@dataclass(frozen=True)
class Measured:
    """Loss and gradient of a batch, and how far these may be off, each relative to itself."""

    loss: float
    gradient: Tensor
    tolerances: tuple[float, float]

    def distance(self, other: "Measured") -> tuple[float, float]:
        """How far loss and gradient are off from the other's."""
        turned = (self.gradient - other.gradient).norm() / other.gradient.norm().clamp(min=LEAST)
        return abs(self.loss - other.loss) / max(abs(other.loss), LEAST), turned.item()


def why_padded(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why `model` is to be trained on padded rows; None if packed ones are the same.

    They are if a few rows, the longest among them, have the loss and the gradient packed that the model, as it was loaded, has for
    them padded: in float32, and in the type of its weights no further from that. Afterwards the model is as it was.
    """
    was_training, chosen = model.training, telling_rows(model, rows)
    model.eval()
    try:
        for places in (chosen, [chosen[0], chosen[-1]]):
            try:
                return _why_padded(model, _ids(rows, places), tokenizer)
            except torch.OutOfMemoryError:
                free_memory()
        in_half = _is_half(model) and not is_sharded(model)
        return "a float32 comparison does not fit the memory" if in_half else "two rows do not fit the memory at once"
    finally:
        model.train(was_training)


def telling_rows(model: PeftModel, rows: Dataset) -> list[int]:
    """The places of the row with the longest input, the one with the longest answer, one of middling length and the shortest.

    On a CPU the first and the last of these alone, where the logits of all, padded, would take more than CPU_LOGITS_BYTES.
    """
    lengths = {name: token_lengths(rows, name) for name in ("input_ids", "labels")}
    order = np.argsort(rows["length"][:]).tolist()
    chosen = list(dict.fromkeys([*(int(found.argmax()) for found in lengths.values()), order[len(order) // 2], order[0]]))
    vocabulary = model.get_input_embeddings().weight.shape[0]
    logits_bytes = 4 * len(chosen) * int(lengths["labels"].max()) * vocabulary
    if model.device.type == "cpu" and logits_bytes > CPU_LOGITS_BYTES:
        chosen = list(dict.fromkeys([chosen[0], chosen[-1]]))
    return chosen if len(chosen) > 1 else chosen * 2


def _why_padded(model: PeftModel, rows: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase) -> str | None:
    expected = _measure(model, padding_collator(model, tokenizer)(rows).to(model.device))
    try:
        undo = accept_packed(model.get_base_model())
        try:
            found = _measure(model, BatchEncoding(PackingCollator(model)(rows)).to(model.device))
        finally:
            undo()
    except CannotPack as error:
        return str(error)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        notes = getattr(error, "__notes__", None)
        return notes[0] if notes else f"it takes no packed rows ({type(error).__name__}: {first_line(error)})"
    return next(filter(None, (_difference(*sides, expected[0]) for sides in zip(found, expected, strict=True))), None)


def _difference(packed: Measured, padded: Measured, exact: Measured) -> str | None:
    """What packed rows differ in from `exact` by more than rounding, which padded ones show."""
    off, turned = packed.distance(exact)
    loss_allowed, allowed = (
        tolerance + ROUNDING * rounded for tolerance, rounded in zip(packed.tolerances, padded.distance(exact), strict=True)
    )
    if off <= loss_allowed and turned <= allowed:  # not so for NaN
        return None
    return (
        f"packed rows are not what padded rows are (loss {packed.loss:.5g} instead of {padded.loss:.5g}, gradient off by "
        f"{turned:.2g} where {allowed:.1g} is allowed)"
    )


def _measure(model: PeftModel, batch: BatchEncoding) -> list[Measured]:
    """What `batch` gives in float32, unless the model is sharded, and in the type of the model's weights if that is narrower."""
    half, sharded = _is_half(model), is_sharded(model)
    measured = []
    if not sharded:
        with in_float32(model):
            measured.append(Measured(*loss_and_gradient(model, batch)[:2], TOLERANCES))
    if half or sharded:
        measured.append(Measured(*loss_and_gradient(model, batch)[:2], HALF_TOLERANCES if half else TOLERANCES))
    return measured


def _is_half(model: PeftModel) -> bool:
    return any(parameter.dtype in HALF for parameter in model.parameters())


def packing_is_faster(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase, micro_batch: int) -> bool:
    """Whether a few batches of the rows, grouped by length, take less time packed than padded, forward and backward."""
    order = [row for batch in Order(rows["length"][:], micro_batch, seed=0, group_by_length=True).epoch(0) for row in batch]
    starts = [len(order) * part // TIMED_BATCHES for part in range(TIMED_BATCHES)]
    batches = [_ids(rows, order[start : start + micro_batch]) for start in starts]
    collators: dict[str, Collator] = {"padded": padding_collator(model, tokenizer), "packed": PackingCollator(model)}
    objective = Objective(model)
    seconds: dict[str, list[float]] = {name: [] for name in collators}
    try:
        with preserved_state(model):
            for _ in range(ROUNDS):
                for name, collate in collators.items():
                    seconds[name].append(_time(model, objective, [collate(batch).to(model.device) for batch in batches]))
    except torch.OutOfMemoryError:
        free_memory()
        return True  # the smaller of the two
    padded, packed = (median(seconds[name][1:]) for name in ("padded", "packed"))  # the first round warms up
    log.info("rows packed without padding: %.2f times as fast as padded ones", padded / packed)
    return packed < padded


def _ids(rows: Dataset, places: Sequence[int]) -> list[dict[str, list[int]]]:
    return [{name: row[name] for name in ("input_ids", "labels")} for row in map(rows.__getitem__, map(int, places))]


def _time(model: PeftModel, objective: Objective, batches: list[BatchEncoding]) -> float:
    _wait(model.device)
    started = time.perf_counter()
    for batch in batches:
        objective(model, batch).backward()
    _wait(model.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
