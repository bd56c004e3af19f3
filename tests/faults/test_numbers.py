"""Every variable that is a number, at numbers that nobody means: done, or an answer of one line that is no bug."""

from typing import Any, get_args

import pytest

from job.config.settings import Settings
from job.errors import EXIT_BUG
from job.system.signals import stop_signals
from tests.conftest import FINISHED, do_after_step
from tests.faults.conftest import THOROUGH

pytestmark = pytest.mark.slow
NUMBERS = (
    "0", "-1", "0.5", "1e-300", "1e6", "999999", "1e38", "1e300", "2147483647", "9" * 20, "inf", "-inf", "nan", "1e400", "0x10",
)  # fmt: skip
TAKES_WHAT_IT_ASKS_FOR = {"LORA_R": ("999999",), "MAX_NEW_TOKENS": ("999999", "2147483647")}
"""Numbers that are a machine's own affair: memory for minutes, an answer for hours."""
OF_AN_EVALUATION = ("NUM_BEAMS", "PER_DEVICE_EVAL_BATCH_SIZE", "EVAL_MAX_ROWS", "GPU_HOURLY_COST", "MAX_NEW_TOKENS", "EVAL_SAMPLES")
NEEDED = {
    "SAVE_STEPS": {"SAVE_STRATEGY": "steps"}, "EVAL_STEPS": {"EVAL_STRATEGY": "steps"}, "MAX_STEPS": {},
    "EARLY_STOPPING_PATIENCE": {"EVAL_STRATEGY": "epoch"}, "EVAL_SAMPLES": {"EVAL_STRATEGY": "epoch"},
}  # fmt: skip


def kinds(annotation: Any) -> list[Any]:
    """The types that an annotation is made of."""
    return [kind for part in get_args(annotation) for kind in kinds(part)] or [annotation]


NUMERIC = [
    name.upper() for name, field in Settings.model_fields.items() if any(kind in (int, float) for kind in kinds(field.annotation))
]


def test_the_numbers_among_the_variables_are_found():
    assert {"LEARNING_RATE", "WARMUP_STEPS", "SEED", "MAX_STEPS", "GPU_HOURLY_COST", "EVAL_FRACTION"} <= set(NUMERIC)
    assert not {"MODEL_ID", "USE_DORA", "OPTIM"} & set(NUMERIC)


@pytest.mark.parametrize("name", NUMERIC)
def test_no_number_is_a_bug(name, run_job, t5_folder, write_rows, questions, monkeypatch, count):
    """A training is stopped after its first step, so that a number of years takes no longer than others."""
    usual = FINISHED | {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions[:12]), "METRICS": "exact_match"}
    usual |= {"OVERWRITE": "true", "MAX_STEPS": 1 if name in OF_AN_EVALUATION else 3}
    if name == "NUM_TRAIN_EPOCHS":
        del usual["MAX_STEPS"]
    if name not in OF_AN_EVALUATION:
        do_after_step(monkeypatch, 2, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
    numbers = NUMBERS if THOROUGH else NUMBERS[NUMERIC.index(name) % 3 :: 3]
    for number in numbers:
        if number in TAKES_WHAT_IT_ASKS_FOR.get(name, ()):
            continue
        code, said = run_job("run" if name in OF_AN_EVALUATION else "train", **usual | NEEDED.get(name, {}) | {name: number})
        stop_signals.received = None
        assert code != EXIT_BUG, f"{name}={number}: {said}"
        assert "Traceback" not in said, f"{name}={number}"
        count("numbers that nobody means, as variables")
