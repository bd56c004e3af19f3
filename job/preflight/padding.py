"""Whether a row's loss is the same beside longer ones as alone: else no number of a run would mean anything."""

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
    """Raises SettingsError if the row with the shortest answer has another loss padded, beside the longest, than alone."""
    answers = token_lengths(rows, "labels")
    short, longest = rows[int(answers.argmin())], rows[int(answers.argmax())]
    collate = padding_collator(model, tokenizer)
    was_training = model.training
    model.eval()
    try:
        with in_float32(model), torch.inference_mode():
            together = _first_loss(model, collate([short, longest]))
            alone = _first_loss(model, _without_padding(collate([short]), short))
    except torch.OutOfMemoryError:
        return free_memory()
    finally:
        model.train(was_training)
    if abs(together - alone) > TOLERANCE * max(1.0, alone):
        raise SettingsError(
            f"MODEL_ID: in this version of transformers a {model.config.model_type} gives a row another loss beside longer ones "
            f"({together:.5g}) than alone ({alone:.5g}), so that its answers would depend on their batch. Choose another model."
        )


def _first_loss(model: PeftModel, batch: BatchEncoding) -> float:
    batch = batch.to(model.device)
    logits = model(**model_inputs(batch)).logits
    return row_losses(logits, batch["labels"], shift=not model.config.is_encoder_decoder)[0].item()


def _without_padding(batch: BatchEncoding, row: dict) -> BatchEncoding:
    ends = {"input_ids": len(row["input_ids"]), "labels": len(row["labels"])}
    ends |= {"attention_mask": ends["input_ids"], "decoder_input_ids": ends["labels"]}
    return BatchEncoding({name: tensor[:, : ends[name]] for name, tensor in batch.items()})
