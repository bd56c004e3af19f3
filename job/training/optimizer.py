"""Optimizer and learning rate by their names in transformers, and the optimizer's state as tensors."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Adafactor, get_scheduler

from job.system.quick_bitsandbytes import bitsandbytes
from job.training.config import TrainingConfig

UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|layer_norm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
"""In the names of parameters."""


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimizer of all trained parameters. Biases and norms do not decay, as in transformers' Trainer."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decaying = [name for name in trained if not UNDECAYED.search(name)]
    groups = [
        {"params": [trained[name] for name in decaying], "weight_decay": config.weight_decay},
        {"params": [parameter for name, parameter in trained.items() if name not in decaying], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    kinds: dict[str, Callable[..., Optimizer]] = {
        "adamw_torch": lambda groups, lr: torch.optim.AdamW(groups, lr=lr),
        "adamw_torch_fused": lambda groups, lr: torch.optim.AdamW(groups, lr=lr, fused=True),
        "adafactor": lambda groups, lr: Adafactor(groups, lr=lr, scale_parameter=False, relative_step=False),
        "paged_adamw_8bit": lambda groups, lr: bitsandbytes.optim.PagedAdamW8bit(groups, lr=lr),
    }
    return kinds[config.optim](groups, config.learning_rate)


def learning_rates(optimizer: Optimizer, config: TrainingConfig, total_steps: int) -> Callable[[int], float]:
    """The learning rate of the step after so many steps, by transformers' schedule of that name."""
    warmup = config.warmup_steps
    warmup_steps = int(warmup) if warmup >= 1 else -int(-warmup * total_steps // 1)
    schedule = get_scheduler(config.lr_scheduler_type, optimizer, num_warmup_steps=warmup_steps, num_training_steps=total_steps)
    factor = schedule.lr_lambdas[0]
    return lambda step: config.learning_rate * factor(step)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def state_of(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the optimizer remembers: tensors, and numbers, by "place of the parameter.name"; bitsandbytes nests a level deeper."""
    flat = dict(_flat(optimizer.state_dict()["state"]))
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in flat.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in flat.items() if not isinstance(value, Tensor)}


def restore_state(optimizer: Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Puts back what `state_of` returned."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | numbers).items():
        place, *path, entry = name.split(".")
        entries = state.setdefault(int(place), {})
        for part in path:
            entries = entries.setdefault(part, {})
        entries[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _flat(entries: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
