"""LoRA on a base model: a new adapter, a saved one, and the base without it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from job.errors import InputMissing, SettingsError, first_line


def add_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` with a new adapter in float32; only the adapter (and what `config` names beside it) is trained."""
    names = [name for name, _ in model.named_modules()]
    if missing := next((saved for saved in config.modules_to_save or () if not any(name.endswith(saved) for name in names)), None):
        raise SettingsError(
            f'MODULES_TO_SAVE: no module of the model is named "{missing}". Name one that is there, such as lm_head.'
        )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise SettingsError(f"LoRA: {first_line(error)}") from error
    adapted.config.use_cache = False
    adapted.original_biases = {
        name: parameter.detach().clone()
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad and name.endswith(".bias") and "lora_" not in name and "modules_to_save" not in name
    }
    return adapted


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """`model` with the adapter saved in `folder`."""
    if not (folder / "adapter_config.json").exists():
        raise InputMissing(f"{folder}: no adapter there. Train one first, or check OUTPUT_DIR and RUN_NAME.")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name.endswith(".bias")}
    adapted = PeftModel.from_pretrained(model, str(folder))
    adapted.original_biases = {
        name: before[plain] for name, _ in adapted.named_parameters() if (plain := _plain_name(name)) in before
    }
    return adapted


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


@contextmanager
def base_only(model: PeftModel) -> Iterator[None]:
    """Inside, `model` computes what the untouched base model does. PEFT itself leaves trained biases switched on."""
    parameters = dict(model.named_parameters())
    trained = {name: parameters[name].detach().clone() for name in model.original_biases}
    with torch.no_grad(), model.disable_adapter():
        for name, original in model.original_biases.items():
            parameters[name].copy_(original)
        try:
            yield
        finally:
            for name, bias in trained.items():
                parameters[name].copy_(bias)
