"""LoRA on a base model: a new adapter, a saved one, and the base without it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from job.errors import InputMissing, SettingsError, first_line
from job.model.fused_lora import fuse_lora
from job.model.patches import replace_forward

HALF = (torch.float16, torch.bfloat16)


class LoraRefused(SettingsError):
    """PEFT makes no such adapter: of settings that it takes one by one, or of this model."""


def add_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` with a new adapter; it alone is trained, and what `config` names beside it, all of it in float32.

    Raises LoraRefused where PEFT refuses `config`, SettingsError for MODULES_TO_SAVE that are not there.
    """
    names = [name for name, _ in model.named_modules()]
    if missing := next((saved for saved in config.modules_to_save or () if not any(name.endswith(saved) for name in names)), None):
        raise SettingsError(
            f'MODULES_TO_SAVE: no module of the model is named "{missing}". Name one that is there, such as lm_head.'
        )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise LoraRefused(f"LoRA: {first_line(error)}") from error
    for module in adapted.modules():
        _train_in_float32(module)
        if isinstance(module, PreTrainedModel):
            module.config.use_cache = False  # a T5's decoder has a config of its own
    fuse_lora(adapted)
    adapted.original_biases = {
        name: parameter.detach().clone()
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad and name.endswith(".bias") and "lora_" not in name and "modules_to_save" not in name
    }
    return adapted


def _train_in_float32(module: nn.Module) -> None:
    """Casts what is trained of `module` itself to float32, where steps much smaller than a weight are not lost.

    `module` computes in the type that it had, as it will wherever the adapter is loaded.
    """
    kept = {
        name: parameter.dtype
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad and parameter.dtype in HALF
    }
    for name in kept:
        module.get_parameter(name).data = module.get_parameter(name).data.float()
    if kept:
        replace_forward(module, partial(_compute_in_half, module=module, kept=kept))


def _compute_in_half(forward: Callable, *args: Any, module: Any, kept: dict[str, torch.dtype], **kwargs: Any) -> Any:
    """What `forward` puts out while parameters, and what it is given, have the types in `kept`."""
    trained = {name: module._parameters[name] for name in kept}
    dtype = next(iter(kept.values()))
    try:
        module._parameters.update({name: trained[name].to(kept[name]) for name in kept})
        return forward(
            *(given.to(dtype) if isinstance(given, Tensor) and given.is_floating_point() else given for given in args), **kwargs
        )
    finally:
        module._parameters.update(trained)


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """`model` with the adapter saved in `folder`."""
    if not (folder / "adapter_config.json").exists():
        raise InputMissing(f"{folder}: no adapter there. Train one first, or check OUTPUT_DIR and RUN_NAME.")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name.endswith(".bias")}
    adapted = PeftModel.from_pretrained(model, str(folder))
    fuse_lora(adapted)
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
