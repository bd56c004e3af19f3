"""Whether a model is trained on packed rows: where they are what padded rows are, and on a GPU where they are faster too."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from statistics import median

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.errors import first_line
from job.model.lora import HALF
from job.model.objective import Objective
from job.model.packed_attention import CannotPack, accept_packed
from job.model.packing import Collator, PackingCollator, padding_collator
from job.model.sharding import is_sharded
from job.preflight.memory import SHORTEST, preserved_state, shorter
from job.preflight.rows_alone import Alone, Measured, evaluating, measure
from job.system.gpu_errors import is_gpu_failure, one_name_for_full_memory
from job.system.hardware import free_memory
from job.training.order import Order
from job.training.step import Rows

log = logging.getLogger(__name__)

TOLERANCES = 1e-4, 1e-3
"""Of loss and gradient in float32, which stays well within: one row that sees another is off by more than a hundred times that."""
HALF_TOLERANCES = 0.01, 0.1
"""The same in half precision, beside ROUNDING times what padded rows are off from float32."""
ROUNDING = 2
TIMED_BATCHES, ROUNDS = 3, 4


def why_padded(alone: Alone) -> str | None:
    """Why the model is to be trained on padded rows; None if packed ones are the same.

    They are if the telling rows have the loss and the gradient packed that the model, as it was loaded, has for each of them alone,
    summed: in float32, and in the type of its weights no further from that. That padded rows are what they are alone is
    `check_padding`'s to say. Afterwards the model is as it was.
    """
    with evaluating(alone.model):
        for tried, in_float32_too in _smaller_and_smaller(alone.rows, not is_sharded(alone.model)):
            with contextlib.suppress(torch.OutOfMemoryError):
                return _why_padded(alone, tried, in_float32_too)
            free_memory()
    log.warning("packing: two rows of %d tokens do not fit the memory beside the model", SHORTEST)
    return "whether packed ones are the same could not be computed"


def _smaller_and_smaller(rows: Rows, in_float32_too: bool) -> Iterator[tuple[Rows, bool]]:
    """`rows`, then two of them, these shorter and shorter, each with whether to compute in float32 too; at last without."""
    rows = rows if len(rows) > 1 else [*rows, *rows]
    yield rows, in_float32_too
    left: Rows | None = [rows[0], rows[-1]]
    while left is not None:
        rows = left
        yield rows, in_float32_too
        left = shorter(rows)
    if in_float32_too:
        yield rows, False


def _why_padded(alone: Alone, rows: Rows, in_float32_too: bool) -> str | None:
    model = alone.model
    is_half = any(parameter.dtype in HALF for parameter in model.parameters())
    modes = [True] * in_float32_too + [False] * (is_half or not in_float32_too)
    is_int8 = getattr(model.get_base_model(), "is_loaded_in_8bit", False)  # rounds a row by what else is in its batch
    others = [measure(model, alone.collate(rows), wide) if is_int8 else _summed(alone, rows, wide) for wide in modes]
    try:
        undo = accept_packed(model.get_base_model())
        try:
            pack = PackingCollator(model)(rows[::-1])  # the longest last: in a causal model it is what would see the others
            packed = [measure(model, pack, wide) for wide in modes]
        finally:
            undo()
    except CannotPack as error:
        return str(error)
    except Exception as error:
        if is_gpu_failure(error):
            raise
        notes = getattr(error, "__notes__", None)
        return notes[0] if notes else f"it takes no packed rows ({type(error).__name__}: {first_line(error)})"
    tolerances = [HALF_TOLERANCES if is_half and not wide else TOLERANCES for wide in modes]
    sides = zip(packed, others, tolerances, strict=True)
    return next(filter(None, (_difference(*side, others[0]) for side in sides)), None)


def _difference(packed: Measured, others: Measured, allowed: tuple[float, float], exact: Measured) -> str | None:
    """What packed rows differ in from `exact` by more than is allowed beside rounding, which rows that are not packed show."""
    off, turned = packed.distance(exact)
    loss_allowed, turn_allowed = (
        tolerance + ROUNDING * rounded for tolerance, rounded in zip(allowed, others.distance(exact), strict=True)
    )
    if off <= loss_allowed and turned <= turn_allowed:  # not so for NaN
        return None
    return (
        f"packed rows are not what padded rows are (loss {packed.loss:.5g} instead of {others.loss:.5g}, gradient off by "
        f"{turned:.2g} where {turn_allowed:.1g} is allowed)"
    )


def _summed(alone: Alone, rows: Rows, wide: bool) -> Measured:
    """The mean loss a label of all rows, each alone, and its gradient."""
    counts = [len(alone.collate([row])["labelled"]) for row in rows]
    loss, gradient = 0.0, torch.zeros(())
    for row, count in zip(rows, counts, strict=True):
        given, share = alone.given(row, wide), count / sum(counts)
        loss, gradient = loss + share * given.loss, gradient + share * given.gradient
    return Measured(loss, gradient)


def packing_is_faster(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase, micro_batch: int) -> bool:
    """Whether a few batches of the rows, grouped by length, take less time packed than padded, forward and backward."""
    order = [row for batch in Order(rows["length"][:], micro_batch, seed=0, group_by_length=True).epoch(0) for row in batch]
    starts = [len(order) * part // TIMED_BATCHES for part in range(TIMED_BATCHES)]
    batches = [_ids(rows, order[start : start + micro_batch]) for start in starts]
    collators: dict[str, Collator] = {"padded": padding_collator(model, tokenizer), "packed": PackingCollator(model)}
    seconds: dict[str, list[float]] = {name: [] for name in collators}
    try:
        objective = Objective(model)
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


@one_name_for_full_memory()
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
