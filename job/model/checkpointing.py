"""Gradient checkpointing of some of a model's blocks."""

import logging

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from job.model.towers import towers

log = logging.getLogger(__name__)


def checkpoint_blocks(model: PreTrainedModel, blocks: int) -> None:
    """Makes the first `blocks` transformer blocks, the encoder's first, keep their input alone and recompute the rest.

    A warning says where the library has no such way for the model's kind.
    """
    if not blocks:
        return
    if not model.supports_gradient_checkpointing:
        log.warning("a %s recomputes no blocks: transformers has no way to; it takes more memory", model.config.model_type)
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    recomputed = set(transformer_blocks(model)[:blocks])
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.gradient_checkpointing = layer in recomputed


def transformer_blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The blocks of `model` that text passes, in the order of the computation; of nested ones the outer."""
    apart, found = towers(model), dict[str, GradientCheckpointingLayer]()
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, GradientCheckpointingLayer) and name not in apart and not inside:
            found[name] = module
    return list(found.values())
