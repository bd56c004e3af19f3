"""Whatever signal arrives at whatever function of whatever command: the right exit code, a true status, no process and no lock
left, and the same command then ends as if nothing had been."""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import KILLS, THOROUGH, asked

pytestmark = pytest.mark.slow
CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 143, "SIGHUP": 129}
SIGNALS = list(CODES) if THOROUGH else ["SIGKILL", "SIGTERM"]
COMMANDS = {
    "run": ["run"], "prepare": ["prepare"], "train": ["train"], "evaluate": ["evaluate"], "merge": ["merge"],
    "compare": ["compare", "r", "q"], "predict": ["predict", "questions.csv", "answers.csv"], "plan": ["plan"],
    "doctor": ["doctor"],
}  # fmt: skip
STATES = {"plan": None, "doctor": None, "prepare": "prepared", "train": "trained"}
"""What status.json says after a command; "done" after all others."""
TAKEN_HOME = (
    "output/*/adapter/*.safetensors", "output/*/merged/*.safetensors", "output/*/evaluation.csv", "output/*/data/*/*.arrow",
    "output/compare.html", "answers.csv",
)  # fmt: skip
OF_A_FINISHED_RUN = ("evaluate", "merge", "compare", "predict")
TIMES = re.compile(rb"\d+(\.\d+)? ?(s|h|ms|rows/s|examples/s)\b|\d\d:\d\d(:\d\d)?|\d{4}-\d\d-\d\d")


@pytest.fixture(scope="module")
def job() -> Iterator[Callable[..., dict]]:
    """Runs a command in a folder, with a signal; see `any_moment`."""
    with asked("any_moment") as ask:
        yield lambda folder, variables, *arguments, **signal: ask(folder=folder, variables=variables, arguments=arguments, **signal)


@pytest.fixture(scope="module")
def variables(t5_folder) -> dict:
    return {
        "MODEL_ID": str(t5_folder), "TRAIN_DATA": "rows.csv", "RUN_NAME": "r", "MAX_STEPS": "4", "LOGGING_STEPS": "1",
        "EVAL_STRATEGY": "steps", "EVAL_STEPS": "2", "SAVE_STRATEGY": "steps", "SAVE_STEPS": "2", "MAX_NEW_TOKENS": "4",
        "METRICS": "exact_match", "PREPROCESSING_NUM_WORKERS": "2", "EVAL_MAX_ROWS": "4", "HF_HUB_OFFLINE": "1", "DEVICE": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory, variables, job) -> Callable[[str], Path]:
    """Makes a folder in which a command can be run: with data, and with two finished runs where it needs them."""
    empty = tmp_path_factory.mktemp("empty")
    rows = [f"the {number} of May{' please' * (number % 7)},05-{number:02d}\n" for number in range(1, 31)]
    (empty / "rows.csv").write_text("input,output_ground_truth\n" + "".join(rows))
    (empty / "questions.csv").write_text("input\n" + "".join(f"the {number} of June\n" for number in range(1, 20)))
    finished = tmp_path_factory.mktemp("finished") / "runs"
    shutil.copytree(empty, finished)
    for name, steps in (("r", "4"), ("q", "2")):
        done = job(finished, variables | {"RUN_NAME": name, "MAX_STEPS": steps}, "run")
        assert done["code"] == 0, (finished / "log.txt").read_text()

    def make(command: str) -> Path:
        folder = tmp_path_factory.mktemp(command) / "ground"
        shutil.copytree(finished if command in OF_A_FINISHED_RUN else empty, folder)
        return folder

    return make


@pytest.fixture(scope="module")
def untouched(ground, variables, job) -> Callable[[str], tuple[dict, int]]:
    """What a command that nobody disturbed leaves, and how many functions of the job it calls."""
    known = {}

    def run(command: str) -> tuple[dict, int]:
        if command not in known:
            folder = ground(command)
            done = job(folder, variables_of(command, variables), *COMMANDS[command])
            assert done["code"] == 0, (folder / "log.txt").read_text()
            known[command] = outcome(folder), done["functions"]
        return known[command]

    return run


def variables_of(command: str, variables: dict) -> dict:
    return variables | ({"METRICS": "token_f1"} if command == "evaluate" else {})


def outcome(folder: Path) -> dict[str, str]:
    """sha256 of what a person takes home, without times."""
    made = [path for pattern in TAKEN_HOME for path in sorted(folder.glob(pattern))]
    return {str(path.relative_to(folder)): hashlib.sha256(TIMES.sub(b"", path.read_bytes())).hexdigest() for path in made}


def check_end(folder: Path, done: dict, name: str) -> None:
    """Of a command that a signal has ended."""
    said = (folder / "log.txt").read_text()[-3000:]
    assert done["code"] == CODES[name], f"at {done['last']}: {said}"
    assert not done["left"], f"at {done['last']}"
    assert not done["locked"], f"at {done['last']}"
    status = folder / "output" / "r" / "status.json"
    if name == "SIGKILL" or not status.exists():
        return
    told = json.loads(status.read_text())
    assert told["state"] != "running", f"at {done['last']}: {said}"
    if told["state"] == "failed":
        assert told["retryable"], f"at {done['last']}: {told}"
        assert told["exit_code"] in (CODES[name], 138), f"at {done['last']}: {told}"  # 138: of one that was killed before


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_at_any_function_of_any_command_loses_nothing(command, name, ground, untouched, variables, job, count):
    expected, functions = untouched(command)
    folder, moments = ground(command), random.Random(f"{command} {name}")
    of_command = variables_of(command, variables)
    for place in sorted(moments.sample(range(1, functions + 1), max(KILLS // 8, 2))):
        done = job(folder, of_command, *COMMANDS[command], at_call=place, signal=name)
        if done["code"] == 0:  # it was done before it came there, as it goes on from what it had
            folder = ground(command)
            continue
        check_end(folder, done, name)
        count(f"{name} at a function of `{command}`")
    done = job(folder, of_command, *COMMANDS[command])
    assert done["code"] == 0, (folder / "log.txt").read_text()[-3000:]
    assert outcome(folder) == expected
    if state := STATES.get(command, "done"):
        assert json.loads((folder / "output" / "r" / "status.json").read_text())["state"] == state


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("whom", ["job", "child"])
def test_a_signal_while_workers_tokenise_leaves_none_of_them(name, whom, ground, untouched, variables, job, count):
    expected, _ = untouched("prepare")
    folder = ground("prepare")
    done = job(folder, variables, "prepare", with_children=2, signal=name, whom=whom)
    if whom == "job":
        check_end(folder, done, name)
    else:
        assert done["code"] == (138 if name == "SIGKILL" else 0), "a worker is stopped by the job alone"
        assert not done["left"]
        assert not done["locked"]
    count(f"{name} to the {whom} while workers tokenise")
    assert job(folder, variables, "prepare")["code"] == 0
    assert outcome(folder) == expected


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_a_fresh_process_proves_the_adapter_leaves_no_process(name, ground, untouched, variables, job, count):
    expected, _ = untouched("run")
    folder = ground("run")
    assert job(folder, variables, "prepare")["code"] == 0  # else the first child is a worker
    done = job(folder, variables, "run", with_children=1, signal=name, real_proof=True)
    check_end(folder, done, name)
    count(f"{name} while a fresh process proves the adapter")
    assert job(folder, variables, "run")["code"] == 0
    assert outcome(folder) == expected
