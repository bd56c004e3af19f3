"""Every family of language models that the job is tried on, by name."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from tests.zoo import causal_before_llama, causal_models, encoder_decoders, mixtures_and_states
from tests.zoo.tiny import Tiny, save


def builders(module: ModuleType) -> dict[str, Callable[[], Tiny]]:
    """The functions of a module that make a tiny model, by the name of the family."""
    made_here = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    return {name: builder for name, builder in made_here.items() if not name.startswith("_")}


ENCODER_DECODERS = builders(encoder_decoders)
FAMILIES = ENCODER_DECODERS | builders(causal_models) | builders(causal_before_llama) | builders(mixtures_and_states)
"""Each makes a tiny model and its tokenizer."""


def build(name: str, folder: Path) -> None:
    """Writes the tiny model of a family to `folder`: always the same one."""
    torch.manual_seed(0)
    save(FAMILIES[name](), folder)


def published(name: str) -> str:
    """The published models of a family, in words."""
    return (FAMILIES[name].__doc__ or "").partition("\n")[0]
