"""Gradient checkpointing of some blocks: they keep their input alone and are computed a second time in the backward pass."""

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_blocks(model: PreTrainedModel, blocks: int) -> None:
    """Makes the first `blocks` transformer blocks of `model`, the encoder's first, keep their input alone and compute twice."""
    if not blocks:
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for number, layer in enumerate(transformer_blocks(model)):
        layer.gradient_checkpointing = number < blocks


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of `model` in the order of the computation."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
