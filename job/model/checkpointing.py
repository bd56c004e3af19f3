"""Gradient checkpointing of some of a model's blocks."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from job.model.patches import replace_forward
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


@contextlib.contextmanager
def recomputing_in_evaluation(
    model: nn.Module, within: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
) -> Iterator[None]:
    """While this holds, the blocks that recompute in training do so in evaluation mode too, where the library never does.

    within: what they are computed in once more, as torch leaves its function modes for a backward pass.
    """
    blocks = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing]
    with contextlib.ExitStack() as undo:
        for block in blocks:
            again = partial(checkpoint, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), within()))
            undo.callback(replace_forward(block, again))
        yield


def checkpoint_all_blocks(model: PreTrainedModel) -> bool:
    """Makes every block recompute; whether any of them did not before, and does now."""
    blocks = transformer_blocks(model)
    if not model.supports_gradient_checkpointing or all(block.gradient_checkpointing for block in blocks):
        return False
    checkpoint_blocks(model, len(blocks))
    return True


def transformer_blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The blocks of `model` that text passes, in the order of the computation; of nested ones the outer."""
    apart, found = towers(model), dict[str, GradientCheckpointingLayer]()
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, GradientCheckpointingLayer) and name not in apart and not inside:
            found[name] = module
    return list(found.values())
