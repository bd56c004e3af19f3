"""The environment and `.env`, read into Settings; every mistake in them is one SettingsError."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError

from job.config.settings import Settings
from job.errors import SettingsError

KNOWN = tuple(name.upper() for name in Settings.model_fields)
"""The names of all variables."""

OTHER_NAMES = {
    "MODEL": "MODEL_ID", "MODEL_NAME": "MODEL_ID", "MODEL_NAME_OR_PATH": "MODEL_ID", "BASE_MODEL": "MODEL_ID",
    "DATASET": "TRAIN_DATA", "DATASET_PATH": "TRAIN_DATA", "TRAIN_FILE": "TRAIN_DATA", "EPOCHS": "NUM_TRAIN_EPOCHS",
    "NUM_EPOCHS": "NUM_TRAIN_EPOCHS", "LR": "LEARNING_RATE", "BATCH_SIZE": "EFFECTIVE_BATCH_SIZE",
    "TRAIN_BATCH_SIZE": "EFFECTIVE_BATCH_SIZE", "LORA_RANK": "LORA_R", "LORA_TARGET_MODULES": "TARGET_MODULES",
    "OUTPUT": "OUTPUT_DIR", "HUGGING_FACE_HUB_TOKEN": "HF_TOKEN",
}  # fmt: skip
"""What other tools call some of them."""

OTHERS_PREFIXES = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH", "CUDA_", "NVIDIA_", "TENSORBOARD_", "WANDB_", "DOCKER_")
"""Beginnings of the names that other programs read from a process environment."""

MEND_TOKEN_FILE = "Write the token into it and make it readable (chmod a+r), or set HF_TOKEN."

SIMILAR = 0.84
"""From this difflib ratio on, an unknown name in the process environment is a misspelt one: no ordinary name comes near."""


def read_settings(dotenv_path: Path = Path(".env")) -> Settings:
    """The Settings that the process environment and the file at `dotenv_path`, if there is one, ask for.

    Raises SettingsError for a name or a value that is wrong, before anything heavy is imported.
    """
    dotenv = read_dotenv(dotenv_path)
    check_names(dotenv, where=f" in {dotenv_path}", strict=True)
    check_names(os.environ, where="", strict=False)
    given = dotenv | {name.upper(): value for name, value in os.environ.items() if value}
    try:
        settings = Settings(_env_file=dotenv_path)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem, given) for problem in error.errors())) from None
    return _with_token_from_file(settings)


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file, names in capitals, empty ones left out; {} where there is no file."""
    try:
        values = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Save it as UTF-8 text.") from None
    return {name.upper(): value for name, value in values.items() if value}


def check_names(names: Iterable[str], where: str, strict: bool) -> None:
    """Raises SettingsError for the first name that is not known; if not `strict`, only where it looks misspelt."""
    for name in sorted(name.upper() for name in names):
        if name in KNOWN or name.startswith("COMPOSE_"):
            continue
        if nearest := nearest_name(name, strict):
            raise SettingsError(f"{name}{where}: no such variable. Did you mean {nearest}?")
        if strict:
            raise SettingsError(f"{name}{where}: no such variable. env.example lists all of them.")


def nearest_name(name: str, strict: bool) -> str | None:
    """The known name that `name` was meant to be, None if there is none."""
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    if not strict and name.startswith(OTHERS_PREFIXES):
        return None
    return next(iter(difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.6 if strict else SIMILAR)), None)


def _explain(problem: Mapping, given: Mapping[str, str]) -> str:
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
    if not problem["loc"]:
        return f"{message}."
    name = str(problem["loc"][0]).upper()
    if problem["type"] == "string_pattern_mismatch" and name in ("METRIC", "PREPROCESS"):
        message = "path/to/file.py:function"
    if problem["type"] == "string_pattern_mismatch" and name == "RUN_NAME":
        message = "letters, digits, '.', '_' and '-', beginning with a letter or digit"
    if problem["type"] == "string_pattern_mismatch" and name.startswith("PLAN_"):
        message = "median/95th percentile/longest in tokens, such as 150/220/256"
    shown = "" if name.startswith("HF_TOKEN") else f'="{given.get(name, "")}"'
    return f"{name}{shown}: expected {message.removesuffix(' was expected')}. Change it, or leave it empty for the default."


def _with_token_from_file(settings: Settings) -> Settings:
    if settings.hf_token_file is None:
        return settings
    try:
        token = settings.hf_token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"HF_TOKEN_FILE={settings.hf_token_file} cannot be read: {reason}. {MEND_TOKEN_FILE}") from None
    if not token:
        raise SettingsError(f"HF_TOKEN_FILE={settings.hf_token_file} is empty. {MEND_TOKEN_FILE}")
    return settings.model_copy(update={"hf_token": SecretStr(token)})
