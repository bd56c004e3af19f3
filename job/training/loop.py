"""The training loop: what happens between two steps follows from step, history and clock alone, so it can be resumed anywhere."""

import logging
import math
import time
from dataclasses import asdict
from statistics import median

import torch
from datasets import Dataset
from peft import PeftModel

from job.errors import Diverged
from job.model.packing import Collator
from job.training.best import best_of, forget_after, keep_adapter, newest_checkpoint, read_kept_adapter
from job.training.checkpoints import Progress, load_trained, newest_whole, rotate, write_checkpoint
from job.training.config import TrainingConfig, TrainingResult
from job.training.held_out import held_out_loss
from job.training.optimizer import learning_rates, make_optimizer, restore_state, set_learning_rate
from job.training.order import Order
from job.training.step import LossScale, Requests, Stepper
from job.training.supervision import HEARTBEAT_EVERY_S, EvaluationStopped, Surroundings
from job.training.telemetry import Telemetry

log = logging.getLogger(__name__)

MOST_SKIPPED_IN_A_ROW = 24
"""The loss scale starts at 2 ** 16 and halves at each skipped step: after so many it is not the scale."""


def train(
    model: PeftModel, data: tuple[Dataset, Dataset], collate: Collator, config: TrainingConfig, micro_batch: int,
    surroundings: Surroundings,
) -> TrainingResult:  # fmt: skip
    """Trains the adapter of `model` in place, from the newest complete checkpoint on if there is one.

    data: training rows, held-out rows. A stop that the supervision asks for ends it after the step that is being computed, with a
    checkpoint.
    Raises Diverged for a loss, gradient or weight that is not finite, OutOfMemory if one row does not fit, DiskFull.
    """
    training = Training(model, data, collate, config, micro_batch, surroundings)
    training.resume()
    requests = training.stop_before_the_first_step()
    while True:
        if not requests.stop and training.evaluation_is_due():
            requests = training.evaluate()
        if requests.stop or requests.checkpoint or training.checkpoint_is_due():
            training.save()
        if requests.stop or training.is_finished():
            break
        requests = training.step()
        training.log_if_due()
        training.report_now_and_then()
    return training.finish(keep_best=not requests.stop)


class Training:
    """The state of a training, and the statements of `train`."""

    def __init__(
        self, model: PeftModel, data: tuple[Dataset, Dataset], collate: Collator, config: TrainingConfig, micro_batch: int,
        surroundings: Surroundings,
    ) -> None:  # fmt: skip
        self.model, self.collate, self.config = model, collate, config
        self.rows, self.held_out = (part.select_columns(["input_ids", "labels"]) for part in data)
        self.supervision, self.reporters, self.ranks = surroundings.supervision, surroundings.reporters, surroundings.ranks
        self.order = Order(data[0]["length"][:], config.effective_batch_size, config.seed, config.group_by_length)
        self.total_steps = config.total_steps(self.order.steps_per_epoch)
        self.optimizer = make_optimizer(model, config)
        self.learning_rate = learning_rates(self.optimizer, config, self.total_steps)
        self.telemetry = Telemetry()
        self.stepper = Stepper(model, collate, micro_batch, self.ranks, self.telemetry)
        self.stepper.may_recompute = config.may_recompute
        self.progress = Progress()
        self.loss_since_log = self.norm = torch.zeros((), dtype=torch.float64, device=model.device)
        self.sealed: tuple[int, int] | None = None
        """Step and length of the history of the newest checkpoint."""
        self.started = self.saved = time.monotonic()
        self.first_step, self.reported, self.out_of_time, self.grace_was_compared = 0, 0.0, False, False

    def resume(self) -> None:
        """Continues from the newest complete checkpoint; what was kept or shown after its step is deleted. Rank 0 reads."""
        if checkpoint := self.ranks.from_main(lambda: newest_checkpoint(self.config)):
            self.progress = checkpoint.progress
            load_trained(self.model, checkpoint.adapter)
            restore_state(self.optimizer, checkpoint.optimizer, self.progress.optimizer)
            self.loss_since_log = self.loss_since_log + self.progress.loss_since_log
            self.stepper.scale = LossScale(**self.progress.loss_scale)
            self.first_step, self.sealed = self.progress.step, (self.progress.step, len(self.progress.history))
        if self.ranks.is_main:
            forget_after(self.progress.step, self.config.checkpoints)
        for reporter in self.reporters:
            reporter.start(self.progress.step, self.total_steps)
        self.model.train()

    def is_finished(self) -> bool:
        """Whether no step is left, for any reason."""
        is_over = self.progress.step >= self.total_steps or self.out_of_time or self._is_out_of_patience()
        return is_over or self._is_given_up()

    def stop_before_the_first_step(self) -> Requests:
        """Whether a stop signal came to any rank by now."""
        return Requests(stop=any(self.ranks.gather(bool(self.supervision.stop_asked()))))

    def step(self) -> Requests:
        """Takes the next optimizer step; what any rank wants."""
        progress = self.progress
        rows = self.rows[self.order.batch(progress.step)]
        examples = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        micro_batch, seeds = self.stepper.micro_batch, (self.config.seed, progress.step)
        loss, requests = self.stepper.gradient(examples, self.config.effective_batch_size, seeds, self._requests)
        if self.stepper.micro_batch != micro_batch:
            self.supervision.micro_batch_changed(self.stepper.micro_batch)
        set_learning_rate(self.optimizer, self.learning_rate(progress.step))
        self.norm = self.stepper.apply(self.optimizer, self.config.max_grad_norm)
        self.loss_since_log = self.loss_since_log + loss
        progress.steps_since_log += 1
        progress.step += 1
        if requests.end and progress.step < self.total_steps:
            self.out_of_time = True
            log.warning("MAX_HOURS: training ends at step %d of %d; what was learned is kept", progress.step, self.total_steps)
        if self.stepper.scale.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise Diverged(
                f"step {progress.step}: the gradient was not finite in {self.stepper.scale.skipped_in_a_row} steps in a row. "
                f"{self._last_finite()}"
            )
        return requests

    def log_if_due(self) -> None:
        """Logs loss, gradient norm, speed and memory. Raises Diverged where loss or gradient are not finite."""
        progress = self.progress
        if progress.step != 1 and progress.step % self.config.logging_steps:
            return
        values = {"loss": self.loss_since_log.item() / progress.steps_since_log, "grad_norm": self.norm.item()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"step {progress.step}: {name} is {value}. {self._last_finite()}")
        values["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        values |= self.telemetry.read(self.ranks)
        if self.model.dtype == torch.float16:
            values |= {"loss_scale": self.stepper.scale.value, "skipped_steps": self.stepper.scale.skipped_steps}
        self.loss_since_log, progress.steps_since_log = torch.zeros_like(self.loss_since_log), 0
        self._log(values)

    def evaluation_is_due(self) -> bool:
        """Whether an evaluation belongs to this step and is not in the history: also one that a stop cut off before."""
        step, config = self.progress.step, self.config
        every = {"no": 0, "epoch": self.order.steps_per_epoch, "steps": config.eval_steps}[config.eval_strategy]
        is_scheduled = bool(every) and step > 0 and (step % every == 0 or step >= self.total_steps)
        return is_scheduled and not any(entry["step"] == step and "eval_loss" in entry for entry in self.progress.history[-2:])

    def evaluate(self) -> Requests:
        """Evaluates on the held-out rows, and keeps the adapter if it is the best so far; asks to stop where a signal came."""
        started = time.perf_counter()
        try:
            loss = held_out_loss(self.model, self.held_out, self.collate, self.stepper.micro_batch, self.ranks, self._heartbeat)
            seconds = time.perf_counter() - started
            values = {"eval_loss": loss, "eval_runtime": seconds, "eval_samples_per_second": len(self.held_out) / seconds}
            values |= {f"eval_{name}": value for name, value in self.supervision.score_answers(self.progress.step).items()}
        except EvaluationStopped:
            return Requests(stop=True)
        finally:
            self.model.train()
        self._log(values)
        self._keep_if_best()
        return Requests()

    def checkpoint_is_due(self) -> bool:
        """Whether a checkpoint belongs to this step, and this very state is not sealed yet."""
        step, config = self.progress.step, self.config
        every = {"no": 0, "epoch": self.order.steps_per_epoch, "steps": config.save_steps}[config.save_strategy]
        return bool(every) and step > 0 and (step % every == 0 or step >= self.total_steps)

    def save(self) -> None:
        """Seals a checkpoint of this step. Raises Diverged for an adapter that is not finite, DiskFull."""
        progress, folder = self.progress, self.config.checkpoints / f"checkpoint-{self.progress.step}"
        if self.sealed == (progress.step, len(progress.history)):
            return
        self._check_finite()
        started = time.perf_counter()
        self.supervision.keep_logged()
        if self.ranks.is_main:
            progress.loss_since_log, progress.loss_scale = self.loss_since_log.item(), asdict(self.stepper.scale)
            write_checkpoint(folder, self.model, self.optimizer, progress)
            rotate(folder.parent)
        self.saved, self.sealed = time.monotonic(), (progress.step, len(progress.history))
        self._compare_with_grace(time.perf_counter() - started)
        self._report()

    def finish(self, keep_best: bool) -> TrainingResult:
        """What was done; `model` has the adapter of the best evaluation, if one was kept and is wanted."""
        self._check_finite()
        progress, adapter_step = self.progress, self.progress.step
        best = best_of(progress.history, self.config) if keep_best else None
        if best and best.step != progress.step:
            adapter_step = best.step
            load_trained(self.model, self.ranks.from_main(lambda: read_kept_adapter(self.config.checkpoints, best.step)))
            log.info("the adapter is that of step %d of %d, where eval_%s was best: %.4f",
                     best.step, progress.step, self.config.metric_for_best_model, best.value)  # fmt: skip
        for reporter in self.reporters:
            reporter.close()
        speeds = [entry["examples_per_second"] for entry in progress.history if "examples_per_second" in entry]
        examples_per_s = median(speeds[1:] or speeds or [0.0])
        return TrainingResult(
            progress.step, self.total_steps, adapter_step, self.stepper.micro_batch, examples_per_s, progress.history, not keep_best
        )

    def report_now_and_then(self) -> None:
        """Writes the progress to status.json every few seconds."""
        if time.monotonic() - self.reported >= HEARTBEAT_EVERY_S:
            self._report()

    def _requests(self) -> Requests:
        """What this rank wants."""
        now, supervision = time.monotonic(), self.supervision
        return Requests(bool(supervision.stop_asked()), now - self.saved >= supervision.checkpoint_s, now >= supervision.deadline)

    def _log(self, values: dict[str, float]) -> None:
        epoch = self.progress.step / self.order.steps_per_epoch
        self.progress.history.append(values | {"epoch": epoch, "step": self.progress.step})
        for reporter in self.reporters:
            reporter.log(values, self.progress.step)

    def _keep_if_best(self) -> None:
        best = best_of(self.progress.history, self.config)
        if best and best.since == 0 and self.ranks.is_main:
            keep_adapter(self.model, self.config.checkpoints, self.progress.step)

    def _is_out_of_patience(self) -> bool:
        best, patience = best_of(self.progress.history, self.config), self.config.patience
        if patience is None or best is None or best.since < patience:
            return False
        log.info("training ends at step %d of %d: EARLY_STOPPING_PATIENCE, %d evaluations without a better %s",
                 self.progress.step, self.total_steps, patience, self.config.metric_for_best_model)  # fmt: skip
        return True

    def _is_given_up(self) -> bool:
        evaluations = [entry for entry in self.progress.history if "eval_loss" in entry]
        if not evaluations or evaluations[-1]["step"] != self.progress.step:
            return False
        return self.ranks.from_main(lambda: self.supervision.gives_up(evaluations))

    def _heartbeat(self) -> None:
        """Called before each batch of an evaluation."""
        if self.supervision.stop_asked() and not self.stepper.is_sharded:  # sharded, all ranks compute to the end
            raise EvaluationStopped
        self.report_now_and_then()

    def _step_s(self) -> float:
        """Mean seconds of a step in this session; 0 before the first."""
        done = self.progress.step - self.first_step
        return (time.monotonic() - self.started) / done if done else 0.0

    def _report(self) -> None:
        self.reported = time.monotonic()
        step, logged = self.progress.step, [entry for entry in self.progress.history[-20:] if "loss" in entry]
        newest = logged[-1] if logged else {}
        self.supervision.report(
            step=step, total_steps=self.total_steps, eta_s=round(self._step_s() * (self.total_steps - step)),
            loss=newest.get("loss"), examples_per_s=newest.get("examples_per_second"),
            percent=round(100 * step / max(self.total_steps, 1), 1), last_checkpoint=self.sealed[0] if self.sealed else None,
        )  # fmt: skip

    def _check_finite(self) -> None:
        """Raises Diverged, naming the last checkpoint, if a trained weight is NaN or infinite."""
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not torch.isfinite(parameter).all():
                raise Diverged(f"the trained weights hold NaN or infinity ({name}). {self._last_finite()}")

    def _last_finite(self) -> str:
        """Where the last good state is, and what to change."""
        kept = newest_whole(self.config.checkpoints) if self.ranks.is_main else None
        where = f"The last finite checkpoint is {kept}. " if kept else ""
        return f"{where}With another RUN_NAME lower LEARNING_RATE, raise WARMUP_STEPS or set PRECISION=fp32."

    def _compare_with_grace(self, save_s: float) -> None:
        grace_s = self.supervision.grace_s
        log.debug("checkpoint of step %d sealed in %.1f s", self.progress.step, save_s)
        if save_s + self._step_s() > grace_s and not self.grace_was_compared:
            self.grace_was_compared = True
            log.warning(
                "a step and a checkpoint take %.0f s, GRACE_S=%d: after a sudden stop the run resumes from the last checkpoint; "
                "CHECKPOINT_MINUTES says how old that may be", save_s + self._step_s(), grace_s,
            )  # fmt: skip
