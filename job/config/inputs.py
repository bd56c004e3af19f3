"""Settings -> where a run's inputs are: the base model, the tables, and what to take from them."""

import os
import re
from dataclasses import replace
from pathlib import Path

from job.config.settings import DEMO, Settings
from job.data.column_mapping import ColumnMapping
from job.data.data_config import DataConfig
from job.model.languages import Languages
from job.model.load import BaseModel
from job.system.user_function import load_function
from job.tables.table import Source

DEMO_FOLDER = Path(__file__).parents[1] / "demo"
DEMO_BASE = "job/demo/base"
"""What an adapter calls the embedded base: the same place in every clone of the repository, wherever it was trained."""


def run_name(settings: Settings) -> str:
    """The name of the run: as set, else the short names of model and data."""
    if settings.run_name:
        return settings.run_name
    parts = dict.fromkeys(Path(name.rstrip("/*")).stem for name in (settings.model_id, settings.train_data))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-._") or DEMO


def hub_token(settings: Settings) -> str | None:
    """The hub token in clear."""
    return settings.hf_token.get_secret_value() if settings.hf_token else None


def base_model(settings: Settings, model_id: str | None = None) -> BaseModel:
    """The base model to load: `model_id`, as an adapter names its base, else MODEL_ID; "demo" is the embedded one.

    MODEL_REVISION, TRUST_REMOTE_CODE and ALLOW_PICKLE are said of MODEL_ID alone: an adapter's folder may name any model.
    """
    wanted = model_id or settings.model_id
    location = str(DEMO_FOLDER / "base") if wanted in (DEMO, DEMO_BASE) else wanted
    if wanted not in (settings.model_id, published_model_id(settings)):
        return BaseModel(location, token=hub_token(settings))
    return BaseModel(location, settings.model_revision, hub_token(settings), settings.trust_remote_code, settings.allow_pickle)


def published_model_id(settings: Settings) -> str:
    """What the adapter calls its base model, so that it is found again elsewhere."""
    return DEMO_BASE if settings.model_id == DEMO else settings.model_id


def languages(settings: Settings) -> Languages:
    """The languages of inputs and answers."""
    return Languages(settings.source_language, settings.target_language)


def train_source(settings: Settings) -> Source:
    """Where the training rows are."""
    location = str(DEMO_FOLDER / "appointments.xlsx") if settings.train_data == DEMO else settings.train_data
    return Source("TRAIN_DATA", location, settings.sheet, settings.train_split, hub_token(settings))


def eval_source(settings: Settings) -> Source | None:
    """Where the held-out rows are, if they are given."""
    if settings.eval_data is None:
        return None
    return replace(train_source(settings), variable="EVAL_DATA", location=settings.eval_data, split=settings.eval_split)


def column_mapping(settings: Settings) -> ColumnMapping:
    """What to take from the table."""
    return ColumnMapping(
        settings.input_column,
        settings.target_column,
        settings.messages_column,
        settings.prompt_template,
        settings.preprocess,
        settings.empty_rows,
        (settings.source_language, settings.target_language),
    )


def data_config(settings: Settings) -> DataConfig:
    """How to prepare the rows. Loads PREPROCESS, so that a function that is missing is reported at once."""
    if settings.preprocess:
        load_function(settings.preprocess, "PREPROCESS")
    return DataConfig(
        train=train_source(settings),
        evaluation=eval_source(settings),
        columns=column_mapping(settings),
        eval_fraction=settings.eval_fraction,
        seed=settings.seed,
        max_lengths=(settings.max_source_length, settings.max_target_length),
        too_long=settings.too_long,
        max_truncated_targets=settings.max_truncated_targets,
        max_unknown_targets=settings.max_unknown_targets,
        add_tokens=settings.add_tokens,
        own_held_out="eval_fraction" not in settings.model_fields_set,
        num_proc=settings.preprocessing_num_workers or os.cpu_count() or 1,
    )
