"""Whether a model is trained on packed rows: where they are what padded rows are, and on a GPU where they are faster too."""

import contextlib
import logging
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.model.objective import Objective
from job.model.packing import Collator, PackingCollator, padding_collator
from job.model.sharding import is_sharded
from job.preflight.memory import preserved_state
from job.preflight.precision import in_float32, loss_and_gradient
from job.system.hardware import free_memory
from job.training.order import Order

log = logging.getLogger(__name__)

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
"""What float32 stays well within: one row that sees another is off by more than a hundred times that."""
TIMED_BATCHES, ROUNDS = 3, 4


def packing_is_exact(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the longest and the median row have the loss and gradient packed that they have padded, in float32.

    `model` accepts packed batches. A warning says why not: another version of the library, a kind of attention that looks across
    rows, such as state-space layers, or one that packed rows do not have, such as a sliding window.
    """
    order = np.argsort(rows["length"][:])
    chosen = _ids(rows, [order[-1], order[len(order) // 2]])
    was_training = model.training
    model.eval()
    try:
        with contextlib.nullcontext() if is_sharded(model) else in_float32(model):
            expected_loss, expected, _ = loss_and_gradient(model, padding_collator(model, tokenizer)(chosen).to(model.device))
            loss, gradient, _ = loss_and_gradient(model, PackingCollator(model)(chosen).to(model.device))
    except torch.OutOfMemoryError:
        free_memory()
        log.info("two rows do not fit the memory at once: there is nothing to pack")
        return False
    except (TypeError, ValueError, RuntimeError) as error:
        log.warning("PADDING_FREE: %s takes no packed rows (%s): it is trained with padding", model.config.model_type, error)
        return False
    finally:
        model.train(was_training)
    off, turned = abs(loss / expected_loss - 1), ((gradient - expected).norm() / expected.norm()).item()
    if off <= LOSS_TOLERANCE and turned <= GRADIENT_TOLERANCE:
        return True
    log.warning(
        "PADDING_FREE: packed rows are not what padded rows are for %s (loss %.5g instead of %.5g, gradient off by %.2g): it is "
        "trained with padding", model.config.model_type, loss, expected_loss, turned,
    )  # fmt: skip
    return False


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
