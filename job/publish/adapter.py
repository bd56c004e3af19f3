"""The adapter as a person takes it home: weights, tokenizer, model card, and what predict needs to know."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from job.errors import Diverged, VerificationFailed
from job.system.durable import replace_folder_durably, write_json
from job.system.seal import GONE, seal

WEIGHTS, CARD = "adapter_model.safetensors", "README.md"


def save_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, base_model: str, files: Mapping[str, dict],
    rows: BatchEncoding | None,
) -> None:  # fmt: skip
    """Writes `folder` beside its place, checks it as it is on the disk, seals it and moves it there.

    base_model: what the adapter calls its base. files: further files of JSON, by name. rows: a few rows as the model takes them,
    for which the adapter on the disk must compute what the trained one does; None where one process alone cannot compute.
    Raises Diverged for weights that are not finite, VerificationFailed for an adapter that is not what was trained.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.active_peft_config.base_model_name_or_path = base_model
    model.save_pretrained(partial, save_embedding_layers=False)  # "auto" would ask the hub; embeddings are never resized here
    tokenizer.save_pretrained(partial)
    model.generation_config.save_pretrained(partial)
    for name, content in files.items():
        write_json(partial / name, content)
    _check_weights(model, partial)
    if rows is not None:
        _check_answers(model, partial, rows)
    seal(partial)
    replace_folder_durably(partial, folder)


def weights_damage(folder: Path) -> list[str]:
    """What is wrong with an adapter as far as its weights tell. Raises OSError where they cannot be read."""
    try:
        return [] if _is_finite(load_file(folder / WEIGHTS)) else [f"{WEIGHTS} is empty or holds NaN"]
    except (*GONE, ValueError, SafetensorError):
        return [f"{WEIGHTS} is damaged or missing"]


def _is_finite(weights: dict[str, Tensor]) -> bool:
    """Whether there are weights, and all of them are finite."""
    return bool(weights) and all(torch.isfinite(tensor).all() for tensor in weights.values())


def _check_weights(model: PeftModel, folder: Path) -> None:
    """Raises Diverged or VerificationFailed unless the weights in `folder` are finite and bit for bit those of `model`."""
    weights, trained = load_file(folder / WEIGHTS), get_peft_model_state_dict(model, save_embedding_layers=False)
    if not _is_finite(weights):
        raise Diverged(f"{folder}: the saved adapter is empty or holds NaN. Lower LEARNING_RATE and train again.")
    if weights.keys() != trained.keys() or not all(torch.equal(weights[name], trained[name].cpu()) for name in weights):
        raise VerificationFailed(f"{folder}: what was written is not what was trained. Check the disk and run the job again.")


def _check_answers(model: PeftModel, folder: Path, rows: BatchEncoding) -> None:
    """Raises VerificationFailed unless the adapter loaded from `folder` computes for `rows` what the trained one does."""
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
        raise VerificationFailed(f"{folder}: the adapter, loaded again, answers differently. Check the disk and run the job again.")
