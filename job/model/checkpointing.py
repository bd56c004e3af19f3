"""Gradient checkpointing of some of a model's blocks."""

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_blocks(model: PreTrainedModel, blocks: int) -> None:
    """Makes the first `blocks` transformer blocks, the encoder's first, keep their input alone and recompute the rest."""
    if not blocks:
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for number, layer in enumerate(transformer_blocks(model)):
        layer.gradient_checkpointing = number < blocks


def transformer_blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The blocks of `model` in the order of the computation."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
