"""The adapter as a person takes it home: weights, tokenizer, model card, and what predict needs to know."""

import json
import os
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from job.errors import Diverged

WEIGHTS = "adapter_model.safetensors"
JOB = "job.json"


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, job: dict) -> None:
    """Writes `folder` beside its place, checks that the weights are whole and finite, and moves it there.

    job: the base model's id and how inputs were made (template, lengths), kept as job.json.
    Raises Diverged for weights that are not finite.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.active_peft_config.base_model_name_or_path = job["base_model"]
    model.save_pretrained(partial, save_embedding_layers=False)  # "auto" would ask the hub; embeddings are never resized here
    tokenizer.save_pretrained(partial)
    (partial / JOB).write_text(json.dumps(job, indent=2) + "\n")
    weights = load_file(partial / WEIGHTS)
    if not weights or not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise Diverged(f"{partial}: the saved adapter is empty or holds NaN. Lower LEARNING_RATE and train again.")
    for path in partial.iterdir():
        path.chmod(0o666 & ~_umask())
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def read_job(folder: Path) -> dict:
    """What `save_adapter` kept beside the weights."""
    return json.loads((folder / JOB).read_text())


def _umask() -> int:
    """safetensors writes with mode 0600; files should be as readable as any other of this person."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
