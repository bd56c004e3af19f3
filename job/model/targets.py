"""Which linear layers get LoRA: those that a person or PEFT's table names, or that are an attention's by their place."""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
from peft.utils.transformers_weight_conversion import _MODEL_TO_CONVERSION_PATTERN as KINDS_WITH_EXPERTS
from peft.utils.transformers_weight_conversion import _MOE_TARGET_MODULE_MAPPING as EXPERTS
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from job.errors import SettingsError
from job.model.towers import towers

log = logging.getLogger(__name__)

MIXING = re.compile(r"attn|attention|mixer|mamba|conv|temporal_block", re.IGNORECASE)
"""In the name of a module that moves information between tokens: attention, state spaces, short convolutions."""
PROJECTIONS = re.compile(
    r"(q|v|query|value|W?qkv|Wq|Wv)(_proj|_lin)?|c_attn|query_key_value|q_[ab]_proj|kv_a_proj_with_mqa|kv_b_proj"
    r"|in_proj(_qkvz?)?|x_proj|linear_[xy]"
)
"""Names of the linear layers there that make queries and values, alone or with keys, and of what state spaces have instead."""
ROUTERS = re.compile(r"(^|\.)(gate|shared_expert_gate|[^.]*router[^.]*)(\.|$)")
OUTPUT, TOWER, ROUTER, BARE, AMBIGUOUS, FUSED = (
    "the output layer",
    "vision and audio parts, which text does not pass",
    "routers",
    "layers whose weights are used without a call",
    "layers that PEFT takes for experts by their name",
    "tensors of fused experts",
)
"""What gets no LoRA unless a person names it, as the log says it."""


@dataclass(frozen=True)
class LinearLayers:
    """The linear layers of a model, by their full names."""

    usable: dict[str, nn.Module]
    left_out: dict[str, str]
    """Those that get no LoRA unless a person names them, and what they are."""


def all_linear(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of `model` by their full names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def linear_layers(model: PreTrainedModel) -> LinearLayers:
    """All linear layers of `model`, those set apart that LoRA would do nothing for, or harm."""
    usable: dict[str, nn.Module] = {}
    left_out: dict[str, str] = {}
    modules, apart, head = dict(model.named_modules()), towers(model), model.get_output_embeddings()
    experts = _names_of_experts(model)
    for name, module in all_linear(model).items():
        parent, _, leaf = name.rpartition(".")
        if module is head:
            left_out[name] = OUTPUT
        elif name in apart:
            left_out[name] = TOWER
        elif ROUTERS.search(name):
            left_out[name] = ROUTER
        elif _is_used_bare(model.config.model_type, leaf, modules[parent]):
            left_out[name] = BARE
        elif leaf in experts:
            left_out[name] = AMBIGUOUS
        else:
            usable[name] = module
    return LinearLayers(usable, left_out)


def _is_used_bare(kind: str, leaf: str, parent: nn.Module) -> bool:
    """Whether the model reads the layer's weight itself: a state space's kernel does, and RWKV rescales two before it answers."""
    if kind == "rwkv":
        return leaf == "output" or (leaf == "value" and not hasattr(parent, "output"))
    return leaf in ("dt_proj", "out_proj") and hasattr(parent, "A_log") and hasattr(parent, "D")


def _names_of_experts(model: PreTrainedModel) -> set[str]:
    """Names that PEFT, in this kind of model, takes for experts that transformers 5 keeps in one tensor, whatever bears them."""
    return set(EXPERTS.get(KINDS_WITH_EXPERTS.get(model.config.model_type, ""), ()))


def default_targets(model: PreTrainedModel) -> list[str]:
    """Full names of the linear layers that get LoRA if nobody says which: queries and values, as PEFT's table has them."""
    layers = linear_layers(model).usable
    named = PEFT_TARGETS.get(model.config.model_type, [])
    found = [] if isinstance(named, str) else _ending_in(layers, named)
    found = found or [name for name in layers if is_mixing(name) and PROJECTIONS.fullmatch(name.rpartition(".")[2])]
    return found or [name for name in layers if is_mixing(name)] or list(layers)


def choose_targets(targets: tuple[str, ...], model: PreTrainedModel) -> list[str]:
    """`target_modules` of a LoraConfig, as short as it can be; logs what gets LoRA and what was left out.

    targets: ("auto",), ("all-linear",) or names. Raises SettingsError for a name that matches no module.
    """
    layers = linear_layers(model)
    if targets == ("auto",):
        chosen = default_targets(model)
    elif targets == ("all-linear",):
        chosen = list(layers.usable)
    else:
        chosen = find_named(targets, model)
    log.info("LoRA on %d layers: %s%s", len(chosen), _counted(chosen), _left_out(layers, model, chosen))
    return shortest_names(chosen, [name for name, _ in model.named_modules()])


def shortest_names(chosen: list[str], names: list[str]) -> list[str]:
    """What PEFT is told to choose exactly these of all modules: the ends of their names if that does, else the whole names."""
    for parts in (1, 2):
        ends = sorted({".".join(name.split(".")[-parts:]) for name in chosen})
        if set(_ending_in(names, ends)) == set(chosen):
            return ends
    return sorted(chosen)


def find_named(targets: tuple[str, ...], model: PreTrainedModel) -> list[str]:
    """Full names of the modules that a person's names mean; those of vision and audio parts only where no other has that name."""
    leaves, apart = [name for name, module in model.named_modules() if name and not list(module.children())], towers(model)
    chosen, experts = [], _names_of_experts(model)
    for target in targets:
        if target.rpartition(".")[2] in experts:
            raise SettingsError(
                f'TARGET_MODULES: "{target}" would mean the fused experts of this {model.config.model_type}, which get no LoRA '
                f"here. Leave out {', '.join(sorted(experts))}, or set auto."
            )
        found = _ending_in(leaves, [target])
        if not found:
            existing = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)})
            raise SettingsError(
                f'TARGET_MODULES: no module of the model is named "{target}"; there are {", ".join(existing)}. '
                "Name some of these, or set auto or all-linear."
            )
        chosen += [name for name in found if name not in apart] or found
    return chosen


def is_mixing(name: str) -> bool:
    """Whether a layer of this full name belongs to what moves information between tokens."""
    return any(MIXING.search(part) for part in name.split(".")[:-1])


def _ending_in(names: Iterable[str], ends: Iterable[str]) -> list[str]:
    """Those of `names` that PEFT takes for these `ends`."""
    suffixes = tuple(f".{end}" for end in ends)
    return [name for name in names if f".{name}".endswith(suffixes)]


def is_expert(name: str) -> bool:
    """Whether a layer or parameter of this full name belongs to one of several experts, or to all where they are fused."""
    return ".experts." in name


def _counted(names: Iterable[str]) -> str:
    """ "q (48), v (48)"."""
    return ", ".join(f"{leaf} ({count})" for leaf, count in sorted(Counter(name.rpartition(".")[2] for name in names).items()))


def _left_out(layers: LinearLayers, model: PreTrainedModel, chosen: list[str]) -> str:
    """What was left out for a reason, in words; nothing where that is the output layer alone."""
    reasons = Counter(reason for name, reason in layers.left_out.items() if reason != OUTPUT and name not in chosen)
    reasons[FUSED] = sum(is_expert(name) and parameter.dim() == 3 for name, parameter in model.named_parameters())
    told = [f"{reason} ({count})" for reason, count in reasons.items() if count]
    return f"; left out: {', '.join(told)}" if told else ""
