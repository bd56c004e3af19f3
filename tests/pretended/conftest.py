"""Whole runs of the embedded T5 and of tiny causal models on cards that are not there."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from job.commands import run as run_command
from job.pipeline import train as train_step
from job.training import loop
from job.training.step import Stepper
from tests.conftest import DEMO_BASE
from tests.pretended_gpu import PretendedGpu, pretended
from tests.zoo.causal_before_llama import gpt2
from tests.zoo.tiny import save

STAGES = [
    (train_step, "check_before_training"), (train_step, "choose_padding_free"), (train_step, "find_micro_batch"),
    (train_step, "_surroundings"), (loop, "train"), (run_command, "evaluate"),
]  # fmt: skip
"""What a model goes through in a run; each leaves the memory as it found it."""
SHORT = {
    "DEVICE": "cuda", "RUN_NAME": "r", "TRAIN_DATA": "rows.csv", "MAX_STEPS": 3, "LOGGING_STEPS": 1, "SAVE_STRATEGY": "no",
    "MAX_NEW_TOKENS": 4, "EVAL_MAX_ROWS": 3, "METRICS": "exact_match", "REPORT_TO": "none", "PREPROCESSING_NUM_WORKERS": 1,
}  # fmt: skip


@dataclass
class Run:
    """What a run on a pretended card did."""

    gpu: PretendedGpu
    code: int = -1
    said: str = ""
    left_bytes: dict[str, int] = field(default_factory=dict)
    """What each stage left in the card's memory that was not there before."""
    waits: list[set[str]] = field(default_factory=list)
    """Where the host waited for the card in each training step."""


@pytest.fixture
def run_on(
    run_job: Callable, models: dict[str, Path], write_rows: Callable, questions: list[dict], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Runs a command on the first of two cards: run_on("T4", "llama", "predict", PRECISION="fp16"). change: of the card, before."""
    write_rows(questions)

    def run(card: str, model: str, *command: str, change: Callable = lambda _gpu: None, **variables: object) -> Run:
        gc.freeze()  # what is there by now is not looked at again
        with pretended(card, cards=2) as gpu, monkeypatch.context() as patch:
            made = Run(gpu)
            for module, name in STAGES:
                patch.setattr(module, name, _weighed(made, name, getattr(module, name)))
            for name in ("_backward", "apply"):
                patch.setattr(Stepper, name, _watched(made, name, getattr(Stepper, name)))
            change(gpu)
            where = {"MODEL_ID": models[model]} if model in models else {}
            made.code, made.said = run_job(*command, **SHORT | where | variables)
            gc.collect()
            gc.unfreeze()
        return made

    return run


def _weighed(run: Run, name: str, stage: Callable) -> Callable:
    def weighed(*given: Any) -> Any:
        gc.collect()
        before = run.gpu.live_bytes
        found = stage(*given)
        gc.collect()
        run.left_bytes[name] = run.gpu.live_bytes - before
        return found

    return weighed


def _watched(run: Run, name: str, part: Callable) -> Callable:
    def watched(*given: Any) -> Any:
        before = run.gpu.waits.copy()
        if name == "_backward":
            run.waits.append(set())
        found = part(*given)
        run.waits[-1] |= set(run.gpu.waits - before)
        return found

    return watched


@pytest.fixture(scope="session")
def models(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name; "t5" is the embedded one, the last has biases."""
    found = {"t5": DEMO_BASE, "llama": llama_folder, "gpt2": tmp_path_factory.mktemp("gpt2")}
    torch.manual_seed(0)
    save(gpt2(), found["gpt2"])
    return found
