"""How many steps a training has: what transformers' Trainer makes of the same settings."""

import pytest
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments

from job.training.config import TrainingConfig
from job.training.order import Order


def steps_of_the_library(folder, rows: int, epochs: float, max_steps: int | None, split: tuple[int, int]) -> int:
    """Total steps. split: rows of a micro-batch, micro-batches of a step."""
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=epochs, max_steps=max_steps or -1, per_device_train_batch_size=split[0],
        gradient_accumulation_steps=split[1], use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(nn.Linear(1, 1), arguments, train_dataset=Dataset.from_list([{"x": row} for row in range(rows)]))
    return trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())[-1]


@pytest.mark.parametrize("split", [(8, 1), (2, 4)])
@pytest.mark.parametrize(
    ("rows", "epochs", "max_steps"),
    [(30, 1, None), (32, 3, None), (33, 2, None), (30, 2.5, None), (30, 0.1, None), (7, 0.5, None), (30, 1 / 3, None), (30, 3, 5),
     (30, 1, 100), (90, 1.1, None)],
)  # fmt: skip
def test_as_many_steps_as_in_the_library(tmp_path, rows, epochs, max_steps, split):
    config = TrainingConfig(tmp_path, 8, num_train_epochs=epochs, max_steps=max_steps)
    steps_per_epoch = Order([1] * rows, 8, 0, True).steps_per_epoch
    assert config.total_steps(steps_per_epoch) == steps_of_the_library(tmp_path, rows, epochs, max_steps, split)
