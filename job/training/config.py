"""The configuration of a training, and its result."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainingConfig:
    """Plain values, by the names of the settings."""

    checkpoints: Path
    """Folder of the checkpoints."""
    effective_batch_size: int
    num_train_epochs: float = 1.0
    max_steps: int | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0.0
    """Steps, or a share of all steps if below 1."""
    weight_decay: float = 0.0
    optim: str = "adamw_torch"
    may_recompute: bool = False
    """Whether blocks are recomputed where one row at once does not fit otherwise."""
    max_grad_norm: float = 1.0
    """0 does not clip."""
    group_by_length: bool = True
    seed: int = 42
    logging_steps: int = 10
    save_strategy: str = "epoch"
    """ "no", "epoch" or "steps"."""
    save_steps: int = 500
    eval_strategy: str = "epoch"
    eval_steps: int = 500
    metric_for_best_model: str | None = None
    """By which the adapter of the best evaluation is kept; None keeps none."""
    greater_is_better: bool = False
    patience: int | None = None
    """Evaluations in a row without a new best one after which training ends."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole training."""
        return self.max_steps or -int(-self.num_train_epochs * steps_per_epoch // 1)


@dataclass(frozen=True)
class TrainingResult:
    """What a training did."""

    step: int
    """Optimizer steps, of this session and of those before it."""
    total_steps: int
    adapter_step: int
    """The step after which the adapter was as it is now: the last, or that of the best evaluation."""
    micro_batch: int
    """The last one that was used."""
    examples_per_s: float
    """Median over the logged points."""
    history: list[dict[str, float]]
    is_stopped: bool = False
    """Whether a stop was asked for before it was done; the newest checkpoint is what to go on from."""
