"""The largest step of a training, tried before the first: out of memory is found in seconds, not at step 900."""

import contextlib
from collections.abc import Iterator

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.data.token_lengths import token_lengths
from job.model.objective import Objective
from job.model.packing import collator, padding_collator
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory
from job.training.step import Rows, next_smaller_micro_batch

SHORTEST = 16
"""Tokens that rows are not cut below for a check that has no memory for more."""


def shorter(rows: Rows) -> Rows | None:
    """The ends of `rows`, where a causal model's answers are, half as long as the longest; None where that says too little."""
    tokens = max(len(values) for row in rows for values in row.values()) // 2
    if tokens < SHORTEST:
        return None
    return [{name: values[-tokens:] for name, values in row.items()} for row in rows]


def find_micro_batch(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase, wanted: int, effective: int) -> int:
    """The largest micro-batch up to `wanted`, a divisor of `effective`, whose longest possible step fits the memory.

    Raises OutOfMemory if one row does not.
    """
    micro_batch = wanted
    while True:
        with contextlib.suppress(torch.OutOfMemoryError):
            check_largest_step(model, rows, tokenizer, micro_batch)
            return micro_batch
        free_memory()
        micro_batch = next_smaller_micro_batch(micro_batch, effective)


def check_largest_step(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase, micro_batch: int) -> None:
    """Tries the largest step, on a GPU: a CPU that runs out of memory raises nothing that could be caught.

    Raises torch.OutOfMemoryError.
    """
    if model.device.type != "cpu":
        run_largest_step(model, rows, tokenizer, micro_batch)


@one_name_for_full_memory()
def run_largest_step(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase, micro_batch: int) -> None:
    """One forward and backward pass with the longest input and the longest answer in every row; leaves no trace."""
    batch = BatchEncoding(collator(model, tokenizer)([longest_row(model, rows)] * micro_batch)).to(model.device)
    with preserved_state(model):
        Objective(model)(model, batch).backward()


def longest_batch(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> BatchEncoding:
    """A batch of the longest row alone, on the model's device."""
    return padding_collator(model, tokenizer)([longest_row(model, rows)]).to(model.device)


def longest_row(model: PeftModel, rows: Dataset) -> dict[str, list[int]]:
    """The longest input with the longest answer."""
    longest = {name: rows[int(token_lengths(rows, name).argmax())][name] for name in ("input_ids", "labels")}
    if not model.config.is_encoder_decoder:
        longest["labels"] = longest["input_ids"]
    return longest


@contextlib.contextmanager
def preserved_state(model: PeftModel) -> Iterator[None]:
    """The random state and the gradients are afterwards as they were."""
    devices = [model.device] if model.device.type == "cuda" else []
    model.train()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            model.zero_grad(set_to_none=True)
