"""What settings may not hold: secrets that logs would show, and values that contradict each other."""

from typing import TYPE_CHECKING

from job.config.field_types import DEMO
from job.errors import SECRET

if TYPE_CHECKING:
    from job.config.settings import Settings

SECRETS = ("hf_token", "hf_token_file", "serve_token")
"""Settings that may hold one."""


def refuse_secrets(given: dict[str, object]) -> dict[str, object]:
    """`given`. Raises ValueError for a password or a token in a variable that is written into logs and reports."""
    for name, value in given.items():
        if name not in SECRETS and isinstance(value, str) and SECRET.search(value):
            raise ValueError(
                f"{name.upper()} holds a token or a password, which logs and reports would show. Set HF_TOKEN or "
                "HF_TOKEN_FILE to it, and name the data or the model alone"
            )
    return given


def refuse_contradictions(settings: "Settings") -> "Settings":
    """`settings`. Raises ValueError where they contradict each other; each message names both."""
    micro_batch, given = settings.per_device_train_batch_size, settings.model_fields_set
    contradictions = {
        "MODEL_ID is not set, and the embedded demo model only reads appointments. Set MODEL_ID, "
        "for instance to google/flan-t5-base": settings.train_data != DEMO and "model_id" not in given,
        "HF_TOKEN and HF_TOKEN_FILE are both set. Keep one": settings.hf_token and settings.hf_token_file,
        "EVAL_DATA and EVAL_FRACTION are both set. Keep one": settings.eval_data and "eval_fraction" in given,
        "MAX_STEPS and NUM_TRAIN_EPOCHS are both set. Keep one": settings.max_steps and "num_train_epochs" in given,
        f"EFFECTIVE_BATCH_SIZE={settings.effective_batch_size} is no multiple of PER_DEVICE_TRAIN_BATCH_SIZE={micro_batch}. "
        "Change one of them": micro_batch and settings.effective_batch_size % micro_batch,
        "SAVE_STRATEGY=steps needs SAVE_STEPS. Set it": settings.save_strategy == "steps" and not settings.save_steps,
        "SAVE_STEPS needs SAVE_STRATEGY=steps. Set it": settings.save_strategy != "steps" and settings.save_steps,
        "EVAL_STRATEGY=steps needs EVAL_STEPS. Set it": settings.eval_strategy == "steps" and not settings.eval_steps,
        "EVAL_STEPS needs EVAL_STRATEGY=steps. Set it": settings.eval_strategy != "steps" and settings.eval_steps,
        "PUSH_TO_HUB=true needs HUB_MODEL_ID. Set it": settings.push_to_hub and not settings.hub_model_id,
        "EARLY_STOPPING_PATIENCE needs measurements, EVAL_STRATEGY=no is set. Change one of them": (
            settings.early_stopping_patience and settings.eval_strategy == "no"
        ),
        "EARLY_STOPPING_PATIENCE needs LOAD_BEST_MODEL_AT_END=true. Change one of them": (
            settings.early_stopping_patience and not settings.load_best_model_at_end
        ),
        "METRIC_FOR_BEST_MODEL needs measurements, EVAL_STRATEGY=no is set. Change one of them": (
            "metric_for_best_model" in given and settings.eval_strategy == "no"
        ),
        f"NNODES={settings.nnodes} needs MASTER_ADDR, the address of machine 0. Set it": settings.nnodes > 1
        and not settings.master_addr,
        "QUANTIZATION=int8 needs a GPU, DEVICE=cpu is set. Use QUANTIZATION=nf4 or none": (
            settings.quantization == "int8" and settings.device == "cpu"
        ),
    }
    if found := next((message for message, is_true in contradictions.items() if is_true), None):
        raise ValueError(found)
    return settings
