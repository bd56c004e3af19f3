"""One base model for many adapters, one after another: modules of their own, weights in memory once."""

import copy
from collections.abc import Callable, Hashable
from typing import Any

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import nn
from transformers import PreTrainedModel

from job.system.hardware import free_memory

NOT_SHARED = ".bias"
"""LORA_BIAS trains them in place."""


class LoadedOnce:
    """A base model that is loaded the first time that it is asked for."""

    def __init__(self) -> None:
        self._form: Hashable = None
        self._model: PreTrainedModel | None = None

    def copy(self, form: Hashable, load: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """A model that nobody else has changed. `load` is called for the first, and where `form`, how weights are held, is new."""
        if self._model is None or form != self._form:
            self.drop()
            free_memory()
            self._model, self._form = load(), form
        return copy_sharing_weights(self._model)

    def drop(self) -> None:
        """Forgets the model, which leaves the memory with the last of its copies; whoever asks next has it loaded again."""
        self._model = None


def copy_sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """`model` once more: modules and biases are new ones, so that an adapter on them leaves `model` alone; all else is shared."""
    shared: dict[int, object] = {id(buffer): buffer for buffer in model.buffers()}
    shared |= {id(tensor): tensor for tensor in _int8_weights(model)}
    shared |= {id(weight): weight for name, weight in _parameters(model) if not name.endswith(NOT_SHARED)}
    return copy.deepcopy(model, shared)


def _int8_weights(model: nn.Module) -> list[torch.Tensor]:
    """The weights and scales of int8 layers, in the layers' own states from now on.

    bitsandbytes loads them into the parameter, and the first product takes them out of there: the next copy, with the same
    parameter, would quantise its numbers once more.
    """
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, Linear8bitLt)]
    for layer in layers:
        if layer.weight.CB is not None:
            layer.init_8bit_state()
    return [tensor for layer in layers for tensor in (layer.state.CB, layer.state.SCB) if tensor is not None]


def _parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters(remove_duplicate=False))
