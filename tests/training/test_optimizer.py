"""Optimizer, schedule and warm-up are those that transformers' Trainer makes; what an optimizer remembers survives a checkpoint."""

import json
import math

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler

from job.model.lora import add_lora
from job.training.config import TrainingConfig
from job.training.optimizer import learning_rates, make_optimizer, restore_state, set_learning_rate, state_of
from tests.tiny_models import load

pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
OPTIMIZERS = ["adamw_torch", "adamw_torch_fused", "adafactor", "paged_adamw_8bit"]
SCHEDULES = ["linear", "cosine", "constant", "constant_with_warmup", "polynomial"]


class Layers(nn.Module):
    """A weight large enough for bitsandbytes to keep 8 bits of, a small one, a bias and a frozen weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.large, self.small = nn.Linear(96, 64), nn.Linear(3, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def make_config(tmp_path, **changes) -> TrainingConfig:
    return TrainingConfig(tmp_path, 8, **{"learning_rate": 0.02, "weight_decay": 0.1} | changes)


def make_trainer(model, tmp_path, total_steps: int = 10, **options) -> Trainer:
    """The library's, with the same settings."""
    usual = {"output_dir": str(tmp_path), "learning_rate": 0.02, "weight_decay": 0.1, "max_steps": total_steps, "use_cpu": True}
    trainer = Trainer(model, TrainingArguments(**usual | options))
    trainer.create_optimizer_and_scheduler(total_steps)
    return trainer


def draw_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_the_librarys_optimizer_and_schedule_bit_for_bit(name, tmp_path):
    ours, theirs = Layers(), Layers()
    trainer = make_trainer(theirs, tmp_path, optim=name, lr_scheduler_type="cosine", warmup_steps=2)
    config = make_config(tmp_path, optim=name, lr_scheduler_type="cosine", warmup_steps=2)
    optimizer = make_optimizer(ours, config)
    learning_rate = learning_rates(optimizer, config, 10)
    begun = weights(ours)
    for step in range(10):
        draw_gradients(ours, step)
        draw_gradients(theirs, step)
        set_learning_rate(optimizer, learning_rate(step))
        optimizer.step()
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        assert torch.equal(weights(ours), weights(theirs)), f"step {step + 1}"
    assert not torch.equal(weights(ours), begun)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_remembers_comes_back_from_files_with_the_same_next_steps(name, tmp_path):
    model, config = Layers(), make_config(tmp_path, optim=name)
    optimizer = make_optimizer(model, config)
    for step in range(3):
        draw_gradients(model, step)
        optimizer.step()
    tensors, numbers = state_of(optimizer)
    save_file(tensors, tmp_path / "optimizer.safetensors")
    numbers = json.loads(json.dumps(numbers))
    again = Layers()
    again.load_state_dict(model.state_dict())
    restored = make_optimizer(again, config)
    restore_state(restored, load_file(tmp_path / "optimizer.safetensors"), numbers)
    for step in range(3, 6):
        for one, its_optimizer in ((model, optimizer), (again, restored)):
            draw_gradients(one, step)
            its_optimizer.step()
        assert torch.equal(weights(again), weights(model))


def test_what_was_taken_of_an_optimizer_is_a_copy(tmp_path):
    model = Layers()
    optimizer = make_optimizer(model, make_config(tmp_path))
    draw_gradients(model, 0)
    optimizer.step()
    tensors, _ = state_of(optimizer)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def test_an_optimizer_before_its_first_step_remembers_nothing(tmp_path):
    model = Layers()
    optimizer = make_optimizer(model, make_config(tmp_path))
    assert state_of(optimizer) == ({}, {})
    restore_state(optimizer, {}, {})
    draw_gradients(model, 0)
    optimizer.step()


@pytest.mark.parametrize("options", [{}, {"bias": "lora_only"}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_the_parameters_of_an_adapter_that_decay_are_the_librarys(t5_folder, tmp_path, options):
    targets = ["q", "v"]
    model = add_lora(load(t5_folder), LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets, **options))
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def decays(optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return {names[id(one)]: group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}

    found = decays(make_optimizer(model, make_config(tmp_path)))
    assert found == decays(make_trainer(model, tmp_path).optimizer)
    assert len(found) == sum(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("warmup", [0, 3, 0.25])
@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_is_the_librarys_step_by_step(name, warmup, tmp_path):
    total = 11
    config = make_config(tmp_path, lr_scheduler_type=name, warmup_steps=warmup)
    learning_rate = learning_rates(make_optimizer(Layers(), config), config, total)
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.02)
    steps = math.ceil(total * warmup) if warmup < 1 else warmup
    schedule = get_scheduler(name, other, num_warmup_steps=steps, num_training_steps=total)
    for step in range(total):
        assert learning_rate(step) == schedule.get_last_lr()[0]
        other.step()
        schedule.step()


@pytest.mark.parametrize("warmup", [0, 0.1, 0.15, 1 / 3, 0.999, 1, 4, 7.9])
@pytest.mark.parametrize("total", [1, 7, 10, 60])
def test_a_share_or_a_number_of_steps_warms_up_as_in_the_library(warmup, total, tmp_path):
    """The first step whose learning rate is the highest is the first after the warm-up."""
    config = make_config(tmp_path, lr_scheduler_type="constant_with_warmup", warmup_steps=warmup)
    learning_rate = learning_rates(make_optimizer(Layers(), config), config, total)
    expected = TrainingArguments(output_dir=str(tmp_path), warmup_steps=warmup, use_cpu=True).get_warmup_steps(total)
    assert next(step for step in range(1000) if learning_rate(step) == 0.02) == expected


def test_a_learning_rate_is_that_of_every_group(tmp_path):
    optimizer = make_optimizer(Layers(), make_config(tmp_path))
    assert len(optimizer.param_groups) == 2
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
