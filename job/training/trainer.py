"""The library's Trainer with our loss, our order of rows and what a person wants to see in the curves."""

import math
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from job.errors import Diverged
from job.model.loss import count_labels
from job.model.objective import Objective
from job.model.packing import collator
from job.training.resumable import ResumableTrainer, last_finite
from job.training.sampler import LengthGroupedSampler
from job.training.supervision import Supervision
from job.training.telemetry import Telemetry

MOST_SKIPPED_IN_A_ROW = 24
"""The loss scaler starts at 2 ** 16 and halves at each skip: after so many it is not the scale."""


class LoraTrainer(ResumableTrainer):
    """Trains the adapter of a PeftModel on prepared rows (`input_ids`, `labels`, `length`)."""

    def __init__(
        self, model: PeftModel, args: TrainingArguments, data: tuple[Dataset, Dataset], tokenizer: PreTrainedTokenizerBase,
        supervision: Supervision,
    ) -> None:  # fmt: skip
        train, evaluation = (part.select_columns(["input_ids", "labels"]) for part in data)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train,
            eval_dataset=evaluation,
            data_collator=collator(model, tokenizer),
            processing_class=tokenizer,
            supervision=supervision,
        )
        self.lengths = data[0]["length"][:]
        self.shift = not model.config.is_encoder_decoder
        self.objective = Objective(model)
        self.telemetry = Telemetry()
        self.loss_is_scaled_for_ga = True
        self.skipped_steps = 0
        self._skipped_in_a_row = 0
        self._held_out = torch.zeros(2, dtype=torch.float64)
        """Summed loss and labels of the held-out rows measured so far."""
        self._sampler: LengthGroupedSampler | None = None
        if model.dtype == torch.float16:  # no autocast: it would cast T5's float32 `wo`, which overflows float16, back down
            self.accelerator.scaler = torch.amp.GradScaler(self.args.device.type)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Summed cross-entropy over the number of labels in the whole effective batch.

        T5 in transformers 5.23 does not divide by `num_items_in_batch`, so the library's own loss grows with the number of
        accumulation steps and processes (transformers issue 47688).
        """
        total = self.objective(model, inputs)
        if model.training:
            self.telemetry.count(inputs)
            loss = total / cast(Tensor, num_items_in_batch) * self.accelerator.num_processes
        else:
            count = count_labels(inputs["labels"], self.shift)
            self._held_out += torch.stack([total.double(), count]).cpu()
            loss = total / count
        return (loss, {}) if return_outputs else loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The library's, with the loss a label instead of the mean over batches of any size, and what `score_answers` returns."""
        self._held_out.zero_()
        output = super().evaluation_loop(*args, **kwargs)
        total, count = self.accelerator.reduce(self._held_out.to(self.args.device, torch.float32)).tolist()
        output.metrics["eval_loss"] = total / count
        scores = self.supervisor.supervision.score_answers(self.state.global_step)
        output.metrics.update({f"eval_{name}": value for name, value in scores.items()})
        return output

    def _clip_grad_norm(self, model: torch.nn.Module) -> Tensor:
        self._unscale_gradients()
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Tensor | None = None) -> Tensor:
        """The norm, 0 for a step that the loss scaler skips. Raises Diverged if it skips all the time."""
        if grad_norm is None:
            self._unscale_gradients()
        norm = super()._get_grad_norm(model, grad_norm)
        if self.accelerator.scaler is None or torch.isfinite(norm):
            self._skipped_in_a_row = 0
            return norm
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise Diverged(
                f"step {self.state.global_step}: the gradient was not finite in {self._skipped_in_a_row} steps in a row. "
                f"{last_finite(Path(self.args.output_dir))}"
            )
        return torch.zeros_like(norm)

    def _unscale_gradients(self) -> None:
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.unscale_(self.optimizer.optimizer)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds speed, padding and memory to what is logged. Raises Diverged for a loss or gradient that is not finite."""
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise Diverged(f"step {self.state.global_step}: {name} is {logs[name]}. {last_finite(Path(self.args.output_dir))}")
        if "loss" in logs:
            logs |= self.telemetry.read()
            if self.accelerator.scaler is not None:
                logs |= {"loss_scale": self.accelerator.scaler.get_scale(), "skipped_steps": self.skipped_steps}
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self._sampler = LengthGroupedSampler(self.lengths, batch_size, self.args.seed)
        return self._sampler

    def _run_epoch(self, *, epoch: int, **rest: Any) -> None:
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)  # accelerate does not reach it behind the batches that a resumed run skips
        super()._run_epoch(epoch=epoch, **rest)

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"skipped_steps": self.skipped_steps}

    def _take_up(self, progress: dict[str, Any]) -> None:
        super()._take_up(progress)
        self.skipped_steps = progress["skipped_steps"]
