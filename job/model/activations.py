"""What a model keeps for the backward pass, made less: gradient checkpointing of some blocks, and GELU in one kernel."""

from torch import nn
from transformers import PreTrainedModel
from transformers.activations import NewGELUActivation
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


def fuse_gelu(model: nn.Module) -> None:
    """Puts torch's own tanh GELU, one kernel that keeps its input alone, in the place of T5's `gelu_new`, which is eight."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
