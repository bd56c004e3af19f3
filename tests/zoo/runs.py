"""The job on a tiny model of a family: its variables, its rows, and how it is called."""

import json
import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import safe_open

import entrypoint
from job.config.environment import KNOWN
from job.evaluation.evaluate import read_csv
from job.publish import plots, verification
from job.system.signals import stop_signals
from tests.conftest import checked, do_after_step, plot_unseen, run_reload_here
from tests.zoo.families import ENCODER_DECODERS

STEPS, STOPPED_AFTER = 20, 8
HELD_OUT = 16
WORDS = ["red", "old", "new"]
VARIABLES = {
    "TRAIN_DATA": "rows.jsonl", "MAX_STEPS": STEPS, "LEARNING_RATE": 0.02, "LORA_R": 8, "LOGGING_STEPS": 1, "EVAL_STRATEGY": "no",
    "SAVE_STRATEGY": "no", "METRICS": "exact_match,loss", "MAX_NEW_TOKENS": 12, "PER_DEVICE_EVAL_BATCH_SIZE": HELD_OUT,
    "PREPROCESSING_NUM_WORKERS": 1, "REPORT_TO": "none",
}  # fmt: skip

OF_FAMILY = {"nllb_plain": {"SOURCE_LANGUAGE": "eng_Latn", "TARGET_LANGUAGE": "deu_Latn"}}
"""What a family cannot do without."""


def rows() -> list[dict[str, str]]:
    """Eighty rows, of which a fifth is held out: lists of 2 to 24 words, and the first one to four of them."""
    chosen, made = random.Random(0), []
    for number in range(5 * HELD_OUT):
        words = chosen.choices(
            ["red", "blue", "green", "old", "new", "north", "paper", "three"], k=chosen.choice([2, 5, 9, 16, 24])
        )
        made.append({"input": f"{' '.join(words)} {number}", "output_ground_truth": " ".join(words[: chosen.choice([1, 3, 4, 4])])})
    return made


@dataclass(frozen=True)
class Run:
    """A finished run of the job on a family's tiny model."""

    family: str
    folder: Path
    """Where it was started; the base model is in base/."""
    said: str
    answers: dict[str, list[str]]
    """Of evaluation.csv, by column."""

    @property
    def seq2seq(self) -> bool:
        return self.family in ENCODER_DECODERS

    @property
    def output(self) -> Path:
        return self.folder / "output" / "finished"

    def read(self, name: str) -> dict | list:
        """What a file of JSON in the run's folder holds."""
        return json.loads((self.output / name).read_text())

    def adapted(self) -> set[str]:
        """The names of the modules that the adapter changes."""
        with safe_open(self.output / "adapter" / "adapter_model.safetensors", "pt") as file:
            return {name.removeprefix("base_model.model.").split(".lora_")[0] for name in file.keys()}  # noqa: SIM118

    def why_padded(self) -> str:
        """The reason that the job gave for padding the rows of a batch."""
        return re.search("are padded, not packed: (.*)", self.said)[1]

    def job(self, *arguments: str, stop_after: int | None = None, **variables: object) -> tuple[int, str]:
        """`call` for the same model, rows and settings."""
        return call(self.folder, *arguments, stop_after=stop_after, **OF_FAMILY.get(self.family, {}) | variables)


def call(folder: Path, *arguments: str, stop_after: int | None = None, **variables: object) -> tuple[int, str]:
    """(exit code, what was logged) of a command of entrypoint.py in `folder`. stop_after: a step that a signal comes in."""
    given = VARIABLES | {"MODEL_ID": folder / "base", "RUN_NAME": "finished"} | variables
    with pytest.MonkeyPatch.context() as patch, logged() as lines:
        for name in KNOWN:
            patch.delenv(name, raising=False)
        for name, value in checked({"DEVICE": "cpu"} | given).items():
            patch.setenv(name, value)
        patch.chdir(folder)
        patch.setattr(verification, "run_script", run_reload_here)
        patch.setattr(plots, "_svg", plot_unseen)
        if stop_after:
            patch.setattr(stop_signals, "received", None)
            do_after_step(patch, stop_after, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
        code = entrypoint.main(list(arguments))
    return code, "\n".join(lines)


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines that the job logs while this holds."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))
    logging.getLogger("job").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("job").removeHandler(handler)


def answers(evaluation: Path) -> dict[str, list[str]]:
    """The columns of an evaluation.csv."""
    found = read_csv(evaluation)
    return {name: [row[name] for row in found] for name in found[0]}
