"""What the steps of a run are handed: a run that is prepared, and one that is finished."""

from collections.abc import Callable
from pathlib import Path

import pytest
from peft import PeftModel

from job.config.libraries import lora_config
from job.config.settings import Settings
from job.model.lora import add_lora
from job.pipeline.context import RunContext
from job.pipeline.prepare import load_base_model, prepare_run
from job.pipeline.run_folder import RunFolder
from job.preflight.rows_alone import Alone, telling_rows
from tests.conftest import FINISHED


@pytest.fixture
def make_settings(t5_folder: Path, write_rows: Callable[..., Path], questions: list[dict]) -> Callable[..., Settings]:
    """The settings of a short run on forty rows, with changes."""

    def make(**changes: object) -> Settings:
        usual = {name.lower(): value for name, value in FINISHED.items()}
        return Settings(**{"model_id": str(t5_folder), "train_data": write_rows(questions).name} | usual | changes)

    return make


@pytest.fixture
def make_context(make_settings: Callable[..., Settings]) -> Callable[..., RunContext]:
    """The context of a run that is prepared, and no more; with changes of its settings."""

    def make(**changes: object) -> RunContext:
        settings = make_settings(**changes)
        folder = RunFolder.of(settings)
        folder.path.mkdir(parents=True, exist_ok=True)
        return prepare_run(settings, folder)

    return make


@pytest.fixture
def context(make_context: Callable[..., RunContext]) -> RunContext:
    """That of a run with the usual settings."""
    return make_context()


@pytest.fixture
def model(context: RunContext) -> PeftModel:
    """Its base model with a new adapter."""
    base = load_base_model(context)
    return add_lora(base, lora_config(context.settings, base))


@pytest.fixture
def alone(context: RunContext, model: PeftModel) -> Alone:
    """What the checks before a training ask about `model`."""
    return Alone(model, telling_rows(model, context.prepared.train), context.tokenizer)


@pytest.fixture
def finished_context(finished_run: tuple[dict, Path], make_context: Callable[..., RunContext]) -> RunContext:
    """The context of a run that is finished, whose folder is as the run left it."""
    _, folder = finished_run
    kept = {path: path.read_bytes() for path in (folder / "status.json", folder / "plan.json")}
    context = make_context()
    for path, content in kept.items():
        path.write_bytes(content)
    return context
