"""Settings -> the libraries' own config objects: bitsandbytes', PEFT's; and the training loop's."""

from pathlib import Path

import torch
from accelerate.tracking import get_available_trackers
from peft import LoraConfig
from transformers import BitsAndBytesConfig, PreTrainedModel

from job.config.settings import Settings
from job.errors import SettingsError
from job.evaluation.metrics import LOWER_IS_BETTER
from job.model.targets import choose_targets
from job.system.hardware import DTYPES
from job.training.config import TrainingConfig


def weight_format(precision: str, quantization: str) -> tuple[torch.dtype, BitsAndBytesConfig | None]:
    """(dtype, quantisation) of the base model's weights.

    NF4 is stored as a float type, not as bytes: T5 casts activations to the type that `wo` is stored in. Beside float16 it is
    float32, so that the output of `wo`, which overflows float16, stays float32.
    """
    dtype = DTYPES[precision]
    if quantization == "nf4":
        return dtype, BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=torch.float32 if dtype == torch.float16 else dtype,
        )
    return dtype, BitsAndBytesConfig(load_in_8bit=True) if quantization == "int8" else None


def lora_config(settings: Settings, model: PreTrainedModel) -> LoraConfig:
    """PEFT's config of the adapter."""
    return LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        revision=settings.model_revision,
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=choose_targets(settings.target_modules, model),
        bias=settings.lora_bias,
        modules_to_save=list(settings.modules_to_save) or None,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        init_lora_weights=True if settings.init_lora_weights == "default" else settings.init_lora_weights,
    )


def check_trackers(settings: Settings) -> None:
    """Raises SettingsError for a tracker that is unknown or whose package is not installed."""
    known = ("none", "tensorboard", *(tracker.value for tracker in get_available_trackers()))
    if missing := next((name for name in settings.report_to if name not in known), None):
        raise SettingsError(f"REPORT_TO: {missing} is not installed here. Install its package, or set REPORT_TO=tensorboard.")


def training_config(settings: Settings, checkpoints: Path) -> TrainingConfig:
    """The configuration of the training loop."""
    return TrainingConfig(
        checkpoints=checkpoints,
        effective_batch_size=settings.effective_batch_size,
        num_train_epochs=settings.num_train_epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        optim=settings.optim,
        may_recompute=settings.gradient_checkpointing == "auto",
        max_grad_norm=settings.max_grad_norm,
        group_by_length=settings.train_sampling_strategy == "group_by_length",
        seed=settings.seed,
        logging_steps=settings.logging_steps,
        save_strategy=settings.save_strategy,
        save_steps=settings.save_steps or 500,
        eval_strategy=settings.eval_strategy,
        eval_steps=settings.eval_steps or 500,
        metric_for_best_model=settings.metric_for_best_model if settings.load_best_model_at_end else None,
        greater_is_better=settings.metric_for_best_model not in LOWER_IS_BETTER,
        patience=settings.early_stopping_patience,
    )
