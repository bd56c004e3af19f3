"""Whether a row's loss is the same beside longer ones as alone: else no number of a run would mean anything."""

import logging

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.data.token_lengths import token_lengths
from job.errors import SettingsError
from job.model.objective import Objective
from job.model.packing import Collator, padding_collator
from job.preflight.memory import shorter
from job.preflight.precision import in_float32
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory
from job.training.step import Rows

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Relative where the loss is above 1, in float32; as much as the proof allows at the end."""


def check_padding(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises SettingsError if a row has another loss padded, beside longer ones, than alone.

    Three rows are tried together, then each alone: that with the shortest input, which is padded wherever inputs differ in length,
    that with the longest input and that with the longest answer, beside which the other answers are padded.
    """
    tried: Rows = [{name: rows[place][name] for name in ("input_ids", "labels")} for place in unlike_rows(rows)]
    while (measured := _measure(model, tried, padding_collator(model, tokenizer))) is None:
        free_memory()
        if (cut := shorter(tried)) is None:
            return log.warning("padding: rows do not fit the memory in float32; it is not checked")
        tried = cut
    together, alone = measured
    for beside, expected in zip(together, alone, strict=True):
        if abs(beside - expected) > TOLERANCE * max(1.0, expected):
            raise SettingsError(
                f"MODEL_ID: in this version of transformers a {model.config.model_type} gives a row another loss beside longer "
                f"ones ({beside:.5g}) than alone ({expected:.5g}), so that its answers would depend on their batch. "
                "Choose another model."
            )


def _measure(model: PeftModel, rows: Rows, collate: Collator) -> tuple[list[float], list[float]] | None:
    """The rows' losses together and each alone; None where that does not fit the memory."""
    was_training = model.training
    model.eval()
    try:
        objective = Objective(model)
        with in_float32(model), torch.inference_mode(), one_name_for_full_memory():
            together, *alone = (
                objective.of_rows(model, batch.to(model.device)).tolist()
                for batch in (collate(rows), *(without_padding(collate, row) for row in rows))
            )
            return together, [loss for (loss,) in alone]
    except torch.OutOfMemoryError:
        return None
    finally:
        model.train(was_training)


def unlike_rows(rows: Dataset) -> list[int]:
    """The places of the rows with the shortest input, the longest input and the longest answer: three, where there are so many.

    Of equally short inputs that with the shortest answer, of equally long ones that with the longest.
    """
    inputs, answers = token_lengths(rows, "input_ids"), token_lengths(rows, "labels")
    shortest, *others = np.lexsort((answers, inputs)).tolist()
    longest = others[-1:]
    return [shortest, *longest, *sorted(others[:-1], key=answers.__getitem__)[-1:]]


def without_padding(collate: Collator, row: dict[str, list[int]]) -> BatchEncoding:
    """A padded batch of `row` alone, cut to its length."""
    batch = collate([row])
    ends = {"input_ids": len(row["input_ids"]), "labels": len(row["labels"])}
    ends |= {"attention_mask": ends["input_ids"], "decoder_input_ids": ends["labels"]}
    cut = {name: batch[name][:, :end] for name, end in ends.items() if name in batch}
    return BatchEncoding(cut | {"labelled": batch["labelled"]})  # in the one row places stay what they are
