"""One optimizer step: the gradient of an effective batch, over micro-batches and ranks, clipped and applied."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from torch.optim import Optimizer
from transformers import BatchEncoding

from job.errors import OutOfMemory
from job.labels import IGNORED
from job.model.checkpointing import checkpoint_all_blocks
from job.model.objective import Objective
from job.model.packing import Collator
from job.model.sharding import is_sharded
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory
from job.system.ranks import Ranks
from job.training.order import deal, micro_batches
from job.training.telemetry import Telemetry

log = logging.getLogger(__name__)

FIRST_SCALE, SCALE_GROWS_AFTER = 2.0**16, 2000
"""torch's GradScaler: it halves at each step that is not finite, and doubles after so many in a row that are."""
SMALLER = "Set a smaller PER_DEVICE_TRAIN_BATCH_SIZE, or GRADIENT_CHECKPOINTING=true."
Rows = Sequence[dict[str, list[int]]]


@dataclass
class LossScale:
    """What a loss is multiplied by so that float16 holds its gradients; 1 and constant beside wider types."""

    value: float = 1.0
    good_steps: int = 0
    skipped_in_a_row: int = 0
    skipped_steps: int = 0

    def update(self, is_finite: bool) -> None:
        """Takes note of a step; one that is not finite is skipped."""
        self.good_steps = self.good_steps + 1 if is_finite else 0
        self.skipped_in_a_row = 0 if is_finite else self.skipped_in_a_row + 1
        self.skipped_steps += not is_finite
        if not is_finite:
            self.value /= 2
        elif self.good_steps % SCALE_GROWS_AFTER == 0:
            self.value *= 2


@dataclass(frozen=True)
class Requests:
    """What ranks want beside a step; what one of them wants, all do."""

    stop: bool = False
    checkpoint: bool = False
    end: bool = False
    """No further step, as time is up; unlike after `stop`, what was learned is evaluated and published."""


class Stepper:
    """Takes the steps of a training. Every rank calls it with the same rows."""

    def __init__(self, model: PeftModel, collate: Collator, micro_batch: int, ranks: Ranks, telemetry: Telemetry) -> None:
        self.model, self.collate, self.micro_batch, self.ranks, self.telemetry = model, collate, micro_batch, ranks, telemetry
        self.objective, self.is_sharded = Objective(model), is_sharded(model)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.may_recompute = False
        self.scale = LossScale(FIRST_SCALE if model.dtype == torch.float16 else 1.0)

    def gradient(
        self, rows: Rows, effective_batch_size: int, seeds: tuple[int, int], wanted: Callable[[], Requests]
    ) -> tuple[Tensor, Requests]:
        """Leaves the gradient of the mean loss a label over all `rows`; that loss, and what any rank wants.

        seeds: the training's seed and the step. wanted: what this rank wants, asked as late as possible. Out of memory, on any
        rank, halves the micro-batch and computes the same rows again.
        """
        while True:
            try:
                loss, failed = self._backward(rows, seeds), False
            except torch.OutOfMemoryError as error:
                if self.is_sharded:  # the others wait for this rank's part of the next block
                    raise OutOfMemory(f"out of memory with a micro-batch of {self.micro_batch} rows. {SMALLER}") from error
                loss, failed = torch.zeros((), dtype=torch.float64, device=self.model.device), True
            loss, requests, failed = self._agree(loss, wanted(), failed)
            if not failed:
                return loss, requests
            self.clear()
            free_memory()
            if self.micro_batch == 1 and self.may_recompute and checkpoint_all_blocks(self.model):
                log.warning("out of memory with one row at once: all blocks are recomputed from here on; the result is the same")
                continue
            self.micro_batch = next_smaller_micro_batch(self.micro_batch, effective_batch_size)

    def apply(self, optimizer: Optimizer, max_grad_norm: float) -> Tensor:
        """Clips the gradient and lets the optimizer use it, unless float16 overflowed; its norm, 0 for a skipped step."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self.scale.value != 1:
            for gradient in gradients:
                gradient.div_(self.scale.value)
        norm = torch.nn.utils.get_total_norm(gradients)
        is_finite = self.model.dtype != torch.float16 or math.isfinite(norm.item())
        if is_finite:
            if max_grad_norm:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, max_grad_norm, norm)
            optimizer.step()
        if self.model.dtype == torch.float16:
            self.scale.update(is_finite)
        self.clear()
        return norm if is_finite else torch.zeros_like(norm)

    def clear(self) -> None:
        """Forgets the gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    @one_name_for_full_memory()
    def _backward(self, rows: Rows, seeds: tuple[int, int]) -> Tensor:
        """Adds this rank's part of the gradient; its part of the loss."""
        shift = 0 if self.model.config.is_encoder_decoder else 1
        labels = sum(len(row["labels"][shift:]) - row["labels"][shift:].count(IGNORED) for row in rows)
        lengths = [len(row["input_ids"]) + (0 if shift else len(row["labels"])) for row in rows]
        total = torch.zeros((), dtype=torch.float64, device=self.model.device)
        parts = [micro_batches(part, self.micro_batch) for part in deal(range(len(rows)), lengths, self.ranks.world_size)]
        mine = parts[self.ranks.rank]
        for number in range(max(map(len, parts)) if self.is_sharded else len(mine)):
            is_mine = number < len(mine)
            examples = [rows[place] for place in mine[number]] if is_mine else [without_labels(rows[0])]
            batch = dict(self.collate(examples))
            if is_mine:
                self.telemetry.count(batch)
            seed_everything(*seeds, self.ranks.rank, number)
            loss = self.objective(self.model, on_device(batch, self.model.device)) / labels
            (loss * self.scale.value).backward()
            total += loss.detach()
        return total

    def _agree(self, loss: Tensor, requests: Requests, failed: bool) -> tuple[Tensor, Requests, bool]:
        """The one message of a step: gradients, loss and requests, summed over the ranks."""
        if self.ranks.world_size == 1:
            return loss, requests, failed
        parts = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self.parameters]
        numbers = parts[0].new_tensor([requests.stop, requests.checkpoint, requests.end, failed])
        message = self.ranks.sum(torch.cat([*(part.flatten().to(numbers) for part in parts), loss[None].to(numbers), numbers]))
        gradients = message[: -1 - len(numbers)].split([parameter.numel() for parameter in self.parameters])
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
        *wanted, failures = (number > 0 for number in message[-len(numbers) :].tolist())
        return message[-1 - len(numbers)], Requests(*wanted), failures


def next_smaller_micro_batch(micro_batch: int, effective: int) -> int:
    """The next smaller divisor of the effective batch, logged as a warning. Raises OutOfMemory below 1."""
    if micro_batch == 1:
        raise OutOfMemory(
            "One row does not fit the memory. Set GRADIENT_CHECKPOINTING=true, QUANTIZATION=nf4, a smaller MAX_SOURCE_LENGTH or a "
            "smaller MODEL_ID; `plan` says which GPU would do."
        )
    found = next(size for size in range(micro_batch - 1, 0, -1) if effective % size == 0)
    log.warning("out of memory with a micro-batch of %d rows: %d x %d from here on; the result is the same",
                micro_batch, found, effective // found)  # fmt: skip
    return found


def without_labels(row: dict[str, list[int]]) -> dict[str, list[int]]:
    """`row` without an answer, for a rank that has no row of its own and takes part in what is gathered."""
    return row | {"labels": [IGNORED] * len(row["labels"])}


def on_device(batch: Mapping[str, Tensor], device: torch.device) -> BatchEncoding:
    """`batch` on `device`; a GPU copies it while it still computes what came before."""
    if device.type == "cuda":
        batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
    return BatchEncoding(dict(batch)).to(device, non_blocking=True)


def seed_everything(*numbers: Any) -> None:
    """Seeds torch's generators by these numbers together, whatever was drawn before."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)))
