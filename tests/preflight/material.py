"""What the checks are asked about."""

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from job.preflight.rows_alone import Alone, telling_rows


def alone(model: PeftModel, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Alone:
    """The telling ones of these rows, each alone."""
    return Alone(model, telling_rows(model, rows), tokenizer)
