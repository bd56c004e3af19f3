"""Trains the rows of `test_trainer` in as many processes as torchrun started; rank 0 keeps losses and adapter.

Arguments: folder of the model, folder for the result, accumulation.
"""

import os
import sys
from pathlib import Path

import torch

from tests.training.test_trainer import adapter_of, losses_of, make_trainer

folder, result, accumulation = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
trainer = make_trainer(
    folder, result, eval_batch_size=8 // accumulation // int(os.environ["WORLD_SIZE"]), accumulation=accumulation
)
trainer.train()
if trainer.is_world_process_zero():
    torch.save({"losses": losses_of(trainer), "adapter": adapter_of(trainer)}, result / "result.pt")
