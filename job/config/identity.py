"""What makes two runs the same run, and what distinguishes runs in a table."""

from job.config.settings import Settings
from job.data.column_mapping import AUTO, INPUT, MESSAGES, TARGET, TEMPLATE

DOES_NOT_CHANGE_THE_RESULT = {
    "hf_token", "hf_token_file", "hf_home", "output_dir", "logs_dir", "run_name", "overwrite", "log_level", "logging_steps",
    "report_to", "preprocessing_num_workers", "save_strategy", "save_steps", "per_device_train_batch_size",
    "per_device_eval_batch_size", "eval_samples", "checkpoint_minutes", "grace_s", "max_hours", "allow_pickle",
    "padding_free", "merge_precision", "predict_confidence", "push_to_hub", "hub_model_id", "hub_private_repo", "gpu_hourly_cost",
    "plan_gpu", "plan_source_lengths", "plan_target_lengths", "plan_rows",
    "tensorboard_port", "nproc_per_node", "join_minutes", "shard_base", "plan_hours",
    "nnodes", "node_rank", "master_addr", "master_port", "export_dir",
    "sweep", "sweep_trials", "sweep_hours", "sweep_usd",
    "serve_host", "serve_port", "serve_token", "serve_names", "serve_queue",
}  # fmt: skip
"""Settings that may differ when a run is resumed."""

EVALUATION = {"metrics", "metric", "max_new_tokens", "num_beams", "eval_max_rows"}
"""Settings that only the evaluation after training reads."""

SECRETS = {"hf_token", "hf_token_file", "serve_token"}
USUALLY_VARIED = (
    "model_id", "train_data", "learning_rate", "num_train_epochs", "effective_batch_size", "lora_r", "lora_alpha", "seed",
)  # fmt: skip

BEFORE_AUTO = {"input_column": INPUT, "target_column": TARGET, "messages_column": MESSAGES, "prompt_template": TEMPLATE}
"""What `auto` was called before it recognised more than that; the data's fingerprint tells the rest apart."""


def is_same(name: str, before: object, now: object) -> bool:
    """Whether a setting has the value that it was recorded with."""
    return before == now or (now == AUTO and BEFORE_AUTO.get(name) == before)


def identity(settings: Settings) -> dict[str, object]:
    """The settings that a run's result depends on."""
    return settings.model_dump(mode="json", exclude=DOES_NOT_CHANGE_THE_RESULT)


def training_identity(settings: Settings) -> dict[str, object]:
    """The settings that the adapter depends on: `identity` without those of the evaluation."""
    return without_evaluation(identity(settings))


def without_evaluation(settings: dict[str, object]) -> dict[str, object]:
    """`settings`, by name, without those that only the evaluation reads."""
    return {name: value for name, value in settings.items() if name not in EVALUATION}


def hparams(settings: Settings) -> dict[str, object]:
    """The settings in TensorBoard's table of runs: what runs usually differ in, and what is not the default."""
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude=SECRETS | DOES_NOT_CHANGE_THE_RESULT)
    return settings.model_dump(mode="json", include=set(USUALLY_VARIED)) | changed


def variables(settings: Settings, exclude_defaults: bool = False) -> dict[str, str]:
    """The variables and their values, as a person would set them, without secrets."""
    values = settings.model_dump(mode="json", exclude_defaults=exclude_defaults, exclude=SECRETS)
    return {name.upper(): format_value(value) for name, value in values.items()}


def format_value(value: object) -> str:
    """A setting's value as a person writes it into `.env`: "a,b" for a list, "true" for True, "" for None."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
