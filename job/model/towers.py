"""The parts of a model that text does not pass: vision and audio towers, and what brings their output to the text's width."""

import re

from torch import nn
from transformers import PreTrainedModel

NAMES = re.compile(r"vision|visual|image|audio|speech|video|multi_?modal|mm_")
"""Of modules that are no models of their own, such as a multi_modal_projector."""


def towers(model: nn.Module) -> set[str]:
    """Names of all modules of `model` that only images or sounds pass."""
    inside: set[str] = set()
    for name, module in model.named_modules():
        if name.rpartition(".")[0] in inside or _is_tower(name, module):
            inside.add(name)
    return inside


def _is_tower(name: str, module: nn.Module) -> bool:
    if not name:
        return False
    takes_no_text = isinstance(module, PreTrainedModel) and "text" not in module.input_modalities
    return takes_no_text or NAMES.search(name.rpartition(".")[2]) is not None
