"""Any call on the job's own files may fail, or the power go before it: the same command then ends as if nothing had been.

The kernel asks this test before each call, of libraries as well: see `watched_calls` and `lost_writes`.
"""

import errno
import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.faults.conftest import KILLS, asked
from tests.faults.watched_calls import IS_POSSIBLE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IS_POSSIBLE, reason="Linux on x86-64 alone")]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EINVAL)
CODES = (0, 73, 74)
"""Of a command that met one of these: 0 where it could do without, as for a heartbeat."""
SOME_NAME = re.compile(r"\.?tmp[\w-]{6,}|tfevents\.\S+|#\d+")
COMPARED = ("step", "loss", "grad_norm", "learning_rate", "eval_loss")
VARIABLES = {
    "TRAIN_DATA": "rows.jsonl", "RUN_NAME": "r", "MAX_STEPS": 4, "LOGGING_STEPS": 1, "EVAL_STRATEGY": "steps", "EVAL_STEPS": 2,
    "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2, "MAX_NEW_TOKENS": 4, "METRICS": "exact_match,loss", "PREPROCESSING_NUM_WORKERS": 1,
    "HF_HUB_OFFLINE": 1, "DEVICE": "cpu", "EVAL_MAX_ROWS": 8, "EVAL_SAMPLES": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """What is run in a folder."""

    words: tuple[str, ...]
    after_a_run: bool = True
    """Whether in the folder of a finished run, else in an empty one."""
    variables: dict = field(default_factory=dict)


COMMANDS = {
    "prepare": Command(("prepare",), after_a_run=False),
    "run": Command(("run",), after_a_run=False),
    "OVERWRITE": Command(("run",), variables={"OVERWRITE": "true"}),
    "evaluate": Command(("evaluate",)),
    "predict": Command(("predict", "rows.jsonl", "answers.csv")),
    "merge": Command(("merge",)),
}
every_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module")
def order() -> Iterator[Callable[..., dict]]:
    """Has a command run in a folder, with what is to happen to its calls; see `disk_server`."""
    with asked("disk_server") as ask:
        yield ask


@pytest.fixture(scope="module")
def do(order, t5_folder) -> Callable[..., dict]:
    """Runs one of COMMANDS in a folder."""

    def run(command: Command, folder: Path, **happens: object) -> dict:
        variables = {name: str(value) for name, value in (VARIABLES | {"MODEL_ID": t5_folder} | command.variables).items()}
        return order(folder=folder, command=command.words, variables=variables, **happens)

    return run


@pytest.fixture(scope="module")
def ground(do, tmp_path_factory) -> Callable[[Command], Path]:
    """A new folder for a command to run in."""

    @cache
    def before(after_a_run: bool) -> Path:
        folder = tmp_path_factory.mktemp("before")
        rows = ({"input": f"the {n} of May" + " please" * (n % 7), "output_ground_truth": f"05-{n:02d}"} for n in range(1, 61))
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if after_a_run:
            assert do(COMMANDS["run"], folder)["code"] == 0, log(folder)
            (folder / "log.txt").unlink()
        return folder

    def copy(command: Command) -> Path:
        folder = tmp_path_factory.mktemp("job")
        return shutil.copytree(before(command.after_a_run), folder, dirs_exist_ok=True)

    return copy


@pytest.fixture(scope="module")
def untouched(do, ground) -> Callable[[str], tuple[list[str], dict]]:
    """The calls of a command that nothing happens to, and what it leaves."""

    @cache
    def run(name: str) -> tuple[list[str], dict]:
        folder = ground(COMMANDS[name])
        done = do(COMMANDS[name], folder)
        assert done["code"] == 0, log(folder)
        return done["calls"], outcome(folder)

    return run


def outcome(folder: Path) -> dict:
    """What a command leaves, without what differs from one time to the next."""
    run = folder / "output" / "r"
    files = [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name and path.name != "log.txt"]
    same = [path for path in files if path.suffix in (".safetensors", ".csv")]
    events = EventAccumulator(str(folder / "logs" / "r"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    curves = [tag for tag in events.Tags()["scalars"] if tag.startswith(("train/l", "eval/loss", "final/"))]
    history = json.loads((run / "history.json").read_text()) if (run / "history.json").exists() else []
    return {
        "files": sorted(str(path.relative_to(folder)) for path in files),
        "sha256": {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in same},
        "history": [{name: entry[name] for name in COMPARED if name in entry} for entry in history],
        "curves": {tag: sorted({(event.step, event.value) for event in events.Scalars(tag)}) for tag in curves},
        "answers": sorted({event.step for event in events.Tensors("answers/text_summary")}) if curves else [],
        "state": (status(folder) or {}).get("state"),
    }


def status(folder: Path) -> dict | None:
    path = folder / "output" / "r" / "status.json"
    return json.loads(path.read_text()) if path.exists() else None


def log(folder: Path) -> str:
    path = folder / "log.txt"
    return path.read_text()[-3000:] if path.exists() else ""


def is_damage_told(code: int, folder: Path) -> bool:
    """Whether a file of an adapter could not be read, and it was said so: then another copy of it helps, on whatever disk."""
    return code == 65 and "cannot be read" in log(folder).splitlines()[-1]


def places(calls: list[str], count: int, chance: random.Random) -> list[int]:
    """Numbers of `count` calls, all of another kind as long as there are some: what is done so to a file of that name."""
    kinds: dict[str, list[int]] = {}
    for number, call in enumerate(calls, 1):
        kinds.setdefault(SOME_NAME.sub("#", call), []).append(number)
    chosen = chance.sample(list(kinds), min(count, len(kinds)))
    return [chance.choice(kinds[kind]) for kind in chosen]


@every_command
def test_a_call_that_fails_is_told_and_the_same_command_then_ends_as_if_nothing_had_been(
    name, do, ground, untouched, count, subtests
):
    calls, expected = untouched(name)
    chance = random.Random(name)
    for number in places(calls, KILLS // 4, chance):
        error, folder = chance.choice(ERRORS), ground(COMMANDS[name])
        before = status(folder) or {}
        code = do(COMMANDS[name], folder, fail=(number, number, error))["code"]
        with subtests.test(f"{errno.errorcode[error]} of call {number}, {calls[number - 1]}"):
            assert code in CODES or is_damage_told(code, folder), log(folder)
            assert "Traceback" not in log(folder)
            told = status(folder) or {}
            unchanged = told in ({}, before) and told.get("state") != "running"
            assert code == 0 or told.get("exit_code") == code or unchanged
            assert do(COMMANDS[name], folder)["code"] == 0, log(folder)
            assert outcome(folder) == expected, log(folder)
        count(f"{name}: calls on files that failed, told with code {code}")


@every_command
def test_a_disk_that_fails_for_good_is_told_and_the_same_command_resumes_on_another(name, do, ground, untouched, count, subtests):
    calls, expected = untouched(name)
    chance = random.Random(f"for good {name}")
    for number in places(calls, KILLS // 6, chance):
        error, folder = chance.choice(ERRORS), ground(COMMANDS[name])
        code = do(COMMANDS[name], folder, fail=(number, len(calls) * 2, error))["code"]
        with subtests.test(f"{errno.errorcode[error]} from call {number} on, {calls[number - 1]}"):
            assert code in (73, 74) or is_damage_told(code, folder), log(folder)
            assert "Traceback" not in log(folder)
            assert do(COMMANDS[name], folder)["code"] == 0, log(folder)
            assert outcome(folder) == expected, log(folder)
        count(f"{name}: disks that failed for good, told with code {code}")


@every_command
def test_after_a_power_cut_the_same_command_ends_as_if_nothing_had_been(name, do, ground, untouched, count, subtests):
    calls, expected = untouched(name)
    chance = random.Random(f"power {name}")
    for number, seed in [(chance.randrange(1, len(calls)), chance.random()) for _ in range(KILLS // 6)]:
        folder = ground(COMMANDS[name])
        assert do(COMMANDS[name], folder, power=(number, seed))["code"] == -9
        with subtests.test(f"power cut before call {number}, {calls[number - 1]}, seed {seed}"):
            assert do(COMMANDS[name], folder)["code"] == 0, log(folder)
            assert outcome(folder) == expected, log(folder)
        count(f"{name}: power cuts, and what was not synced lost")


@every_command
def test_what_is_done_outlasts_a_power_cut(name, do, ground, untouched):
    """Nothing that a command has called done may be lost after it."""
    _, expected = untouched(name)
    folder = ground(COMMANDS[name])
    assert do(COMMANDS[name], folder, power=(10**9, 1))["code"] == 0
    assert outcome(folder) == expected
