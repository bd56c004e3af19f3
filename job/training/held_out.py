"""The loss of the held-out rows while training, computed by all ranks and counted once."""

import logging
from collections.abc import Callable

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchEncoding

from job.data.token_lengths import token_lengths
from job.errors import OutOfMemory
from job.model.loss import count_labels
from job.model.objective import Objective
from job.model.packing import Collator
from job.model.sharding import is_sharded
from job.system.hardware import free_memory
from job.system.ranks import Ranks
from job.training.order import deal
from job.training.step import without_labels
from job.training.supervision import EvaluationStopped

log = logging.getLogger(__name__)

EXTRA = -1
"""In the place of a row number: a row that does not count."""


def held_out_loss(
    model: PeftModel, rows: Dataset, collate: Collator, micro_batch: int, ranks: Ranks, on_batch: Callable[[], None]
) -> float:
    """Mean cross-entropy a label of all `rows`. on_batch: called before each batch.

    Raises OutOfMemory if one row does not fit the memory, and EvaluationStopped, on every rank, if `on_batch` does on one.
    """
    lengths = (token_lengths(rows, "input_ids") + token_lengths(rows, "labels")).tolist()
    parts = deal(range(len(rows)), lengths, ranks.world_size)
    left, sharded = parts[ranks.rank], is_sharded(model)
    if sharded:  # as many batches for each rank: some rows once more, without labels
        left += [EXTRA] * (max(map(len, parts)) - len(left))
    objective, shift = Objective(model), not model.config.is_encoder_decoder
    found = torch.zeros(3, dtype=torch.float64, device=model.device)
    """Summed loss, labels, ranks that were stopped."""
    model.eval()
    try:
        while left:
            on_batch()
            examples = [rows[place] if place != EXTRA else without_labels(rows[0]) for place in left[:micro_batch]]
            batch = BatchEncoding(dict(collate(examples)))
            count = count_labels(batch["labels"], shift)
            try:
                with torch.no_grad():
                    found[:2] += torch.stack([objective(model, batch.to(model.device)).double(), count.to(found)])
            except torch.OutOfMemoryError as error:
                if micro_batch == 1 or sharded:
                    longest = lengths[left[0]]
                    raise OutOfMemory(f"evaluation: one row of {longest} tokens does not fit. Set MAX_SOURCE_LENGTH.") from error
                micro_batch = min(micro_batch, len(left)) // 2
                log.warning("evaluation: out of memory, %d rows at once from here on", micro_batch)
                free_memory()
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
