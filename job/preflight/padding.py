"""Whether a row's loss is the same beside longer ones as alone: else no number of a run would mean anything."""

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.data.token_lengths import token_lengths
from job.errors import SettingsError
from job.model.loss import row_losses
from job.model.packing import model_inputs, padding_collator
from job.preflight.precision import in_float32
from job.system.hardware import free_memory

TOLERANCE = 1e-3
"""Relative where the loss is above 1, in float32; as much as the proof allows at the end."""


def check_padding(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises SettingsError if a row has another loss padded, beside longer ones, than alone.

    Three rows are tried together, then each alone: that with the shortest input, which is padded wherever inputs differ in length,
    that with the longest input and that with the longest answer, beside which the other answers are padded.
    """
    tried = [rows[place] for place in unlike_rows(rows)]
    collate = padding_collator(model, tokenizer)
    was_training = model.training
    model.eval()
    try:
        with in_float32(model), torch.inference_mode():
            together = _losses(model, collate(tried))
            alone = [loss for row in tried for loss in _losses(model, _without_padding(collate([row]), row))]
    except torch.OutOfMemoryError:
        return free_memory()
    finally:
        model.train(was_training)
    for beside, expected in zip(together, alone, strict=True):
        if abs(beside - expected) > TOLERANCE * max(1.0, expected):
            raise SettingsError(
                f"MODEL_ID: in this version of transformers a {model.config.model_type} gives a row another loss beside longer "
                f"ones ({beside:.5g}) than alone ({expected:.5g}), so that its answers would depend on their batch. "
                "Choose another model."
            )


def unlike_rows(rows: Dataset) -> list[int]:
    """The places of the rows with the shortest input, the longest input and the longest answer: three, where there are so many.

    Of equally short inputs that with the shortest answer, of equally long ones that with the longest.
    """
    inputs, answers = token_lengths(rows, "input_ids"), token_lengths(rows, "labels")
    shortest, *others = np.lexsort((answers, inputs)).tolist()
    longest = others[-1:]
    return [shortest, *longest, *sorted(others[:-1], key=answers.__getitem__)[-1:]]


def _losses(model: PeftModel, batch: BatchEncoding) -> list[float]:
    batch = batch.to(model.device)
    logits = model(**model_inputs(batch)).logits
    return row_losses(logits, batch["labels"], shift=not model.config.is_encoder_decoder).tolist()


def _without_padding(batch: BatchEncoding, row: dict) -> BatchEncoding:
    ends = {"input_ids": len(row["input_ids"]), "labels": len(row["labels"])}
    ends |= {"attention_mask": ends["input_ids"], "decoder_input_ids": ends["labels"]}
    return BatchEncoding({name: tensor[:, : ends[name]] for name, tensor in batch.items()})
