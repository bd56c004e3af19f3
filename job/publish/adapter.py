"""The adapter as a person takes it home: weights, tokenizer, model card, and what predict needs to know."""

import json
import shutil
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.errors import Diverged, OutputError
from job.system.durable import replace_folder_durably

WEIGHTS = "adapter_model.safetensors"
JOB = "job.json"


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, job: dict, rows: BatchEncoding) -> None:
    """Writes `folder` beside its place, checks it as it is on the disk, and moves it there.

    job: the base model's id and how inputs were made (template, lengths), kept as job.json. rows: a few rows as the model takes
    them, for which the adapter on the disk must compute what the trained one does.
    Raises Diverged for weights that are not finite, OutputError for an adapter that is not what was trained.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.active_peft_config.base_model_name_or_path = job["base_model"]
    model.save_pretrained(partial, save_embedding_layers=False)  # "auto" would ask the hub; embeddings are never resized here
    tokenizer.save_pretrained(partial)
    (partial / JOB).write_text(json.dumps(job, indent=2) + "\n")
    _check_weights(model, partial)
    _check_answers(model, partial, rows)
    replace_folder_durably(partial, folder)


def _check_weights(model: PeftModel, folder: Path) -> None:
    """Raises Diverged or OutputError unless the weights in `folder` are finite and bit for bit those of `model`."""
    weights, trained = load_file(folder / WEIGHTS), get_peft_model_state_dict(model, save_embedding_layers=False)
    if not weights or not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise Diverged(f"{folder}: the saved adapter is empty or holds NaN. Lower LEARNING_RATE and train again.")
    if weights.keys() != trained.keys() or not all(torch.equal(weights[name], trained[name].cpu()) for name in weights):
        raise OutputError(f"{folder}: what was written is not what was trained. Check the disk and run the job again.")


def _check_answers(model: PeftModel, folder: Path, rows: BatchEncoding) -> None:
    """Raises OutputError unless the adapter loaded from `folder` computes for `rows` what the trained one does."""
    if model.active_peft_config.bias != "none":
        return  # PEFT holds no second adapter beside trained biases; their values were compared
    model.eval()
    with torch.inference_mode():
        trained = model(**rows).logits
        model.load_adapter(str(folder), "reloaded")
        model.set_adapter("reloaded")
        try:
            reloaded = model(**rows).logits
        finally:
            model.set_adapter("default")
            model.delete_adapter("reloaded")
    if not torch.allclose(reloaded, trained, rtol=1e-4, atol=1e-4):
        raise OutputError(f"{folder}: the adapter, loaded again, answers differently. Check the disk and run the job again.")


def read_job(folder: Path) -> dict:
    """What `save_adapter` kept beside the weights."""
    return json.loads((folder / JOB).read_text())
