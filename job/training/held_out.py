"""The loss of the held-out rows while training, computed by all ranks and counted once."""

import logging
from collections.abc import Callable, Mapping

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor

from job.data.token_lengths import token_lengths
from job.errors import OutOfMemory
from job.model.objective import Objective
from job.model.packing import Collator
from job.model.sharding import is_sharded
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory
from job.system.ranks import Ranks
from job.training.order import deal
from job.training.step import on_device, without_labels
from job.training.supervision import EvaluationStopped

log = logging.getLogger(__name__)

EXTRA = -1
"""In the place of a row's number: a row that does not count."""


def held_out_loss(
    model: PeftModel, rows: Dataset, collate: Collator, micro_batch: int, ranks: Ranks, on_batch: Callable[[], None]
) -> float:
    """Mean cross-entropy a label of all `rows`. on_batch: called before each batch.

    Raises OutOfMemory if one row does not fit the memory, and EvaluationStopped, on every rank, if `on_batch` does on one.
    """
    found = torch.zeros(3, dtype=torch.float64, device=model.device)
    """Summed loss, labels, ranks that were stopped."""
    objective, left = Objective(model), _share(model, rows, ranks)
    model.eval()
    try:
        while left:
            on_batch()
            examples = [without_labels(rows[0]) if place == EXTRA else rows[place] for place in left[:micro_batch]]
            try:
                found[:2] += _sums(model, objective, collate(examples))
            except torch.OutOfMemoryError as error:
                micro_batch = _smaller(model, examples, error)
                continue
            left = left[micro_batch:]
    except EvaluationStopped:
        found[2] = 1
    finally:
        model.train()
    total, labels, stopped = ranks.sum(found).tolist()
    if stopped:
        raise EvaluationStopped
    return total / labels


def _share(model: PeftModel, rows: Dataset, ranks: Ranks) -> list[int]:
    """This rank's rows by number, the longest first; of a sharded model as many for each rank, with EXTRA ones."""
    lengths = (token_lengths(rows, "input_ids") + token_lengths(rows, "labels")).tolist()
    parts = deal(range(len(rows)), lengths, ranks.world_size)
    mine = parts[ranks.rank]
    return mine + [EXTRA] * (max(map(len, parts)) - len(mine) if is_sharded(model) else 0)


@one_name_for_full_memory()
def _sums(model: PeftModel, objective: Objective, batch: Mapping[str, Tensor]) -> Tensor:
    """Summed loss and labels of a batch: (2,), float64."""
    with torch.no_grad():
        loss = objective(model, on_device(batch, model.device)).double()
    return torch.stack([loss, loss.new_tensor(len(batch["labelled"]))])


def _smaller(model: PeftModel, batch: list[dict[str, list[int]]], error: torch.OutOfMemoryError) -> int:
    """Half as many rows as in `batch`, which does not fit the memory. Raises OutOfMemory where there is no half."""
    if len(batch) == 1 or is_sharded(model):
        longest = len(batch[0]["input_ids"]) + len(batch[0]["labels"])
        raise OutOfMemory(f"evaluation: one row of {longest} tokens does not fit. Set MAX_SOURCE_LENGTH.") from error
    log.warning("evaluation: out of memory, %d rows at once from here on", len(batch) // 2)
    free_memory()
    return len(batch) // 2
