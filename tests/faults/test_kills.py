"""A run that was killed any number of times, at any moment, ends with the adapter and the curves of one that never was."""

import hashlib
import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.faults.conftest import KILLS

pytestmark = pytest.mark.slow
ORDERS, EVALUATIONS = ("random", "group_by_length"), ("no", "steps", "epoch")
KINDS = list(itertools.product(ORDERS, EVALUATIONS))
COMPARED = ("step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss")


@dataclass(frozen=True)
class Outcome:
    """What must be the same, whatever happened in between."""

    adapter: str
    evaluation: str
    history: list
    curve: list
    answers: dict
    """What TensorBoard shows of the same rows, a text an evaluation, by its step."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory, t5_folder):
    """Makes an empty folder with the data in it, and the variables of a run there: folder, variables."""
    rows = [
        {"input": f"the {number} of May" + " please" * (number % 7), "output_ground_truth": f"05-{number:02d}"}
        for number in range(1, 61)
    ]

    def make(order_of_rows: str, evaluation: str, **more: str) -> tuple[Path, dict]:
        folder = tmp_path_factory.mktemp("run")
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        variables = {
            "MODEL_ID": str(t5_folder), "TRAIN_DATA": "rows.jsonl", "RUN_NAME": "r", "NUM_TRAIN_EPOCHS": "4", "LOGGING_STEPS": "3",
            "TRAIN_SAMPLING_STRATEGY": order_of_rows, "EVAL_STRATEGY": evaluation, "SAVE_STRATEGY": "steps", "SAVE_STEPS": "2",
            "MAX_NEW_TOKENS": "4", "PREPROCESSING_NUM_WORKERS": "1", "LORA_DROPOUT": "0.2", "PER_DEVICE_TRAIN_BATCH_SIZE": "4",
            "METRICS": "exact_match,loss", "HF_HUB_OFFLINE": "1", "DEVICE": "cpu",
        }  # fmt: skip
        return folder, variables | ({"EVAL_STEPS": "5"} if evaluation == "steps" else {}) | more

    return make


@pytest.fixture(scope="module")
def untouched(ground, order):
    """The outcome of a run of this kind that nobody touched, and its seconds and syncs."""
    known = {}

    def run(*kind: str) -> tuple[Outcome, float, int]:
        if kind not in known:
            folder, variables = ground(*kind)
            done = order(folder, variables)
            assert done["code"] == 0, (folder / "log.txt").read_text()
            known[kind] = outcome(folder), done["seconds"], int((folder / "syncs").read_text())
        return known[kind]

    return run


def outcome(folder: Path) -> Outcome:
    run = folder / "output" / "r"
    history = json.loads((run / "history.json").read_text())
    events = EventAccumulator(str(folder / "logs" / "r"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    shown = events.Tensors("answers/text_summary") if "answers/text_summary" in events.Tags()["tensors"] else []
    return Outcome(
        adapter=hashlib.sha256((run / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(),
        evaluation=(run / "evaluation.csv").read_text(),
        history=[{name: entry[name] for name in COMPARED if name in entry} for entry in history],
        curve=[(event.step, event.value) for event in events.Scalars("train/loss")],
        answers={event.step: event.tensor_proto.string_val[0] for event in shown},
    )


def stage(folder: Path) -> str:
    """How far a killed run was."""
    status = folder / "output" / "r" / "status.json"
    return json.loads(status.read_text()).get("stage", "done") if status.exists() else "start"


def finish(folder: Path, variables: dict, order) -> None:
    done = order(folder, variables)
    assert done["code"] == 0, (folder / "log.txt").read_text()[-3000:]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_kills_at_random_moments_change_nothing(kind, ground, untouched, order, count):
    expected, seconds, _ = untouched(*kind)
    folder, variables = ground(*kind)
    moments = random.Random("-".join(kind))
    for _ in range(KILLS // len(KINDS)):
        done = order(folder, variables, kill_after_s=moments.uniform(0.05, 1) * seconds)
        if done["code"] == 0:
            assert outcome(folder) == expected
            folder, variables = ground(*kind)
        else:
            assert done["code"] == -9, (folder / "log.txt").read_text()[-3000:]
            count(f"killed (SIGKILL) at random, in the stage: {stage(folder)}")
    finish(folder, variables, order)
    assert outcome(folder) == expected
    count("torn checkpoints set aside", (folder / "log.txt").read_text().count("is incomplete"))


@pytest.mark.parametrize("kind", KINDS[-1:], ids="-".join)
def test_kills_while_something_is_put_on_the_disk_change_nothing(kind, ground, untouched, order, count):
    """The moments at which a half-written file would be left: every k-th sync of a run, each in a run that goes on afterwards."""
    expected, _, syncs = untouched(*kind)
    folder, variables = ground(*kind)
    places = range(1, syncs, max(1, syncs // max(KILLS // 2, 1)))
    for place in places:
        done = order(folder, variables, kill_at_sync=place)
        if done["code"] == 0:  # fewer syncs were left than that
            assert outcome(folder) == expected
            folder, variables = ground(*kind)
            continue
        assert done["code"] == -9
        count("killed (SIGKILL) at a write to the disk")
    finish(folder, variables, order)
    assert outcome(folder) == expected
    count("torn checkpoints set aside", (folder / "log.txt").read_text().count("is incomplete"))


@pytest.mark.parametrize("kind", [("group_by_length", "steps"), ("random", "epoch")], ids="-".join)
def test_stop_signals_leave_a_checkpoint_and_143_and_change_nothing(kind, ground, untouched, order, count):
    expected, seconds, _ = untouched(*kind)
    folder, variables = ground(*kind, SAVE_STRATEGY="no")
    variables.pop("SAVE_STEPS")
    moments, stopped_in = random.Random("stop"), []
    for _ in range(max(KILLS // 4, 3)):
        done = order(folder, variables, stop_after_s=moments.uniform(0.1, 0.8) * seconds)
        if done["code"] == 0:
            assert outcome(folder) == expected
            folder, variables = ground(*kind, SAVE_STRATEGY="no")
            variables.pop("SAVE_STEPS")
            continue
        assert done["code"] == 143, (folder / "log.txt").read_text()[-3000:]
        stopped_in.append(stage(folder))
        count("stopped (SIGTERM) at random")
    finish(folder, variables, order)
    assert outcome(folder) == expected
