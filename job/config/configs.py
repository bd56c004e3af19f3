"""Settings -> what the stages and the libraries take. No stage uses this."""

import os
import re
import sys
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig, PreTrainedModel, TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations

from job.config.settings import DEMO, Settings
from job.data.lengths import Limits
from job.data.prepare import Prepared, Reader, Request
from job.data.read import Source
from job.data.rows import Columns
from job.data.tokens import answer_lengths
from job.errors import SettingsError
from job.evaluation.evaluate import Scoring
from job.evaluation.generate import Decoding
from job.evaluation.metrics import LOWER_IS_BETTER, check_best, check_metrics, check_own, score_own
from job.model.load import BaseModel, choose_targets
from job.plan.memory import Way
from job.system.user_function import load_function
from job.training.train import Trained

DEMO_FOLDER = Path(__file__).parents[1] / "demo"
DEMO_BASE = "job/demo/base"
"""What an adapter calls the embedded base: the same place in every clone of the repository, wherever it was trained."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

DOES_NOT_CHANGE_THE_RESULT = {
    "hf_token", "hf_token_file", "hf_home", "output_dir", "logs_dir", "run_name", "overwrite", "log_level", "logging_steps",
    "report_to", "preprocessing_num_workers", "save_strategy", "save_steps", "per_device_train_batch_size",
    "per_device_eval_batch_size", "eval_samples", "checkpoint_minutes", "grace_s", "max_hours", "allow_pickle",
    "padding_free", "merge_precision", "predict_confidence", "push_to_hub", "hub_model_id", "hub_private_repo", "gpu_hourly_cost",
    "plan_gpu", "plan_source_lengths", "plan_target_lengths", "plan_rows",
    "tensorboard_port",
}  # fmt: skip
"""Settings that may differ when a run is taken up again."""

EVALUATION = {"metrics", "metric", "max_new_tokens", "num_beams", "eval_max_rows"}
"""Settings that only the evaluation after training reads."""

SECRETS = {"hf_token", "hf_token_file"}
USUALLY_VARIED = (
    "model_id", "train_data", "learning_rate", "num_train_epochs", "effective_batch_size", "lora_r", "lora_alpha", "seed",
)  # fmt: skip


def variables(settings: Settings, exclude_defaults: bool = False) -> dict[str, str]:
    """The variables and their values, as a person would set them, without secrets."""
    values = settings.model_dump(mode="json", exclude_defaults=exclude_defaults, exclude=SECRETS)
    return {name.upper(): _as_set(value) for name, value in values.items()}


def _as_set(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def compared(settings: Settings) -> dict[str, object]:
    """What TensorBoard's table of runs tells of each: what runs usually differ in, and what is not as it comes."""
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude=SECRETS | DOES_NOT_CHANGE_THE_RESULT)
    return settings.model_dump(mode="json", include=set(USUALLY_VARIED)) | changed


def run_name(settings: Settings) -> str:
    """The name of the run: as set, else the short names of model and data."""
    if settings.run_name:
        return settings.run_name
    parts = dict.fromkeys(Path(name.rstrip("/*")).stem for name in (settings.model_id, settings.train_data))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-._") or DEMO


def identity(settings: Settings) -> dict[str, object]:
    """The settings that a run's result depends on."""
    return settings.model_dump(mode="json", exclude=DOES_NOT_CHANGE_THE_RESULT)


def training_identity(settings: Settings) -> dict[str, object]:
    """The settings that the adapter depends on, evaluation left out."""
    return of_training(identity(settings))


def of_training(identity: dict[str, object]) -> dict[str, object]:
    """Those of an identity's settings that the adapter depends on."""
    return {name: value for name, value in identity.items() if name not in EVALUATION}


def token(settings: Settings) -> str | None:
    """The hub token in clear."""
    return settings.hf_token.get_secret_value() if settings.hf_token else None


def base_model(settings: Settings) -> BaseModel:
    """Which base model to load; "demo" is the embedded one."""
    return BaseModel(
        located(settings.model_id), settings.model_revision, token(settings), settings.trust_remote_code, settings.allow_pickle
    )


def located(model_id: str) -> str:
    """Where to load a base model from: the embedded one lies beside this module."""
    return str(DEMO_FOLDER / "base") if model_id in (DEMO, DEMO_BASE) else model_id


def published_model_id(settings: Settings) -> str:
    """What the adapter calls its base model, so that it is found again elsewhere."""
    return DEMO_BASE if settings.model_id == DEMO else settings.model_id


def train_source(settings: Settings) -> Source:
    """Where the training rows are."""
    location = str(DEMO_FOLDER / "appointments.xlsx") if settings.train_data == DEMO else settings.train_data
    return Source("TRAIN_DATA", location, settings.sheet, settings.train_split, token(settings))


def eval_source(settings: Settings) -> Source | None:
    """Where the held-out rows are, if they are given."""
    if settings.eval_data is None:
        return None
    return Source("EVAL_DATA", settings.eval_data, settings.sheet, settings.eval_split, token(settings))


def columns(settings: Settings) -> Columns:
    """What to take from the table."""
    return Columns(
        settings.input_column, settings.target_column, settings.messages_column, settings.prompt_template, settings.preprocess
    )


def data_request(settings: Settings) -> Request:
    """What rows to prepare. Tries a person's own function, so that one that is missing is told at once."""
    if settings.preprocess:
        load_function(settings.preprocess, "PREPROCESS")
    return Request(
        train=train_source(settings),
        evaluation=eval_source(settings),
        columns=columns(settings),
        eval_fraction=settings.eval_fraction,
        seed=settings.seed,
        max_lengths=(settings.max_source_length, settings.max_target_length),
        too_long=settings.too_long,
        max_truncated_targets=settings.max_truncated_targets,
        num_proc=settings.preprocessing_num_workers or os.cpu_count() or 1,
    )


def reader(tokenizer: object, seq2seq: bool, limits: tuple[int | None, int | None]) -> Reader:
    """The model that will read the rows."""
    return Reader(tokenizer, seq2seq, Limits(*limits, shared=not seq2seq))


def weights(precision: str, quantization: str) -> tuple[torch.dtype, BitsAndBytesConfig | None]:
    """(type, quantisation) of the base model's weights.

    NF4 is stored as a float type, not as bytes: T5 casts activations to the type that `wo` is stored in. Beside float16 it is
    float32, so that what `wo` puts out, which overflows float16, stays float32.
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


def training_arguments(settings: Settings, checkpoints: Path, device: str, micro_batch: int) -> TrainingArguments:
    """The Trainer's arguments; what a micro-batch lacks of the effective batch is accumulated."""
    trackers = [name for name in settings.report_to if name not in ("none", "tensorboard")]
    return TrainingArguments(
        output_dir=str(checkpoints),
        run_name=run_name(settings),
        num_train_epochs=settings.num_train_epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=settings.effective_batch_size // micro_batch,
        per_device_eval_batch_size=micro_batch,  # what fits with gradients fits without
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        optim=settings.optim,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy=settings.train_sampling_strategy,
        seed=settings.seed,
        logging_steps=settings.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy=settings.save_strategy,
        save_steps=settings.save_steps or 500,
        eval_strategy=settings.eval_strategy,
        eval_steps=settings.eval_steps,
        metric_for_best_model=settings.metric_for_best_model if settings.load_best_model_at_end else None,
        greater_is_better=settings.metric_for_best_model not in LOWER_IS_BETTER,
        prediction_loss_only=True,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to=trackers or "none",
        disable_tqdm=not sys.stderr.isatty(),
        use_cpu=device == "cpu",
        accelerator_config={"non_blocking": device == "cuda"},  # the next batch is copied while the GPU computes this one
        full_determinism=settings.full_determinism,
    )


def check_trackers(settings: Settings) -> None:
    """Raises SettingsError for a tracker that is unknown or whose package is not installed."""
    there = get_available_reporting_integrations()
    if missing := next((name for name in settings.report_to if name not in ("none", "tensorboard", *there)), None):
        raise SettingsError(f"REPORT_TO: {missing} is not installed here. Install its package, or set REPORT_TO=tensorboard.")


def scoring(settings: Settings, prepared: Prepared, rows_at_once: int = 1) -> Scoring:
    """How outputs are made and measured. Tries a person's own metric once, so that it fails before training, not after."""
    check_metrics(settings.metrics)
    own = (settings.metric, load_function(settings.metric, "METRIC")) if settings.metric else None
    if own:
        check_own(own)
    check_best(settings.metric_for_best_model, own)
    if own and "ground_truth" in prepared.evaluation.column_names:
        score_own(prepared.evaluation["ground_truth"][:1], prepared.evaluation["ground_truth"][:1], own)
    longest = int(answer_lengths(prepared.evaluation).max())
    new_tokens = settings.max_new_tokens or longest + longest // 4 + 1
    return Scoring(Decoding(rows_at_once, new_tokens, settings.num_beams), settings.metrics, own)


def _source_limit(settings: Settings, prepared: Prepared) -> int | None:
    """Tokens of an input that a person allowed; None where it is what the model takes."""
    if settings.max_source_length.isdecimal():
        return int(settings.max_source_length)
    return None if settings.max_source_length == "auto" else prepared.train_cut.max_source_length


def job_file(settings: Settings, seq2seq: bool, prepared: Prepared, way: Way, trained: Trained) -> dict:
    """What predict must know to ask the adapter as it was trained."""
    return {
        "base_model": published_model_id(settings),
        "seq2seq": seq2seq,
        "chat": prepared.chat,
        "messages_column": settings.messages_column,
        "input_column": settings.input_column,
        "prompt_template": settings.prompt_template,
        "preprocess": settings.preprocess,
        "max_source_length": _source_limit(settings, prepared),
        "max_new_tokens": scoring(settings, prepared).decoding.max_new_tokens,
        "num_beams": settings.num_beams,
        "precision": way.precision,
        "quantization": way.quantization,
        "steps": trained.step,
        "adapter_step": trained.adapter_step,
        "total_steps": trained.total_steps,
    }
