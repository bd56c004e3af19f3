"""The SkyPilot task, as SkyPilot's own parser reads it, and its command run with the variables that SkyPilot sets on each machine.
Nothing was launched on a cloud. In docker's place stands a program that runs the job with the variables and folders it is given."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from job.errors import Interrupted
from tests.conftest import ERRORS
from tests.engines.environments import programs_of

ROOT = Path(__file__).parents[2]
TASK = ROOT / "deploy" / "skypilot.yaml"
SHORT = {"MAX_STEPS": "2", "EVAL_STRATEGY": "no", "EVAL_MAX_ROWS": "4", "MAX_NEW_TOKENS": "4", "METRICS": "exact_match",
         "DEVICE": "cpu", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # fmt: skip
DOCKER = """#!{python}
import os, sys
words = sys.argv[1:]
options = [(word, words[n + 1]) for n, word in enumerate(words) if word in ("-e", "-v")]
folders = dict(reversed(one.split(":")[:2]) for option, one in options if option == "-v")
inside = {{"PATH": os.environ["PATH"], "HOME": folders["/cache"], "OUTPUT_DIR": folders["/output"], "LOGS_DIR": folders["/logs"]}}
for option, one in options:
    name, equals, value = one.partition("=")
    if option == "-e":
        inside[name] = value if equals else os.environ[name]
for outside, folder in folders.items():
    inside = {{name: folder + value[len(outside):] if value.startswith(outside + "/") else value for name, value in inside.items()}}
after_image = words[words.index(os.environ["IMAGE"]) + 1 :]
os.execve(sys.executable, [sys.executable, "{entrypoint}", *after_image], inside | {short})
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> dict:
    """The task as SkyPilot has it in memory."""
    program = [programs_of("skypilot") / "python", Path(__file__).with_name("load_skypilot.py"), TASK]
    home = os.environ | {"HOME": str(tmp_path_factory.mktemp("home"))}
    return json.loads(subprocess.run(program, check=True, capture_output=True, text=True, cwd=ROOT, env=home).stdout)


def test_a_spot_machine_is_replaced_and_exactly_the_codes_that_a_retry_helps_start_the_job_again(task):
    assert task["spot"] is True
    assert task["recovery"]["max_restarts_on_errors"] == 0
    retryable = {error.exit_code for error in ERRORS if error.retryable} | {Interrupted("", "SIGHUP").exit_code}
    assert task["recovery"]["recover_on_exit_codes"] == sorted(retryable)


def test_runs_are_kept_in_a_bucket_that_takes_every_kind_of_write(task):
    assert task["buckets"] == {"~/runs": ["my-lora-runs", "MOUNT_CACHED"]}
    assert "-v ~/runs/output:/output" in task["run"]


def test_every_variable_of_the_task_reaches_the_container(task):
    assert [name for name in {*task["envs"], "HF_TOKEN"} - {"IMAGE"} if f"-e {name} " not in task["run"]] == []


def test_a_misspelt_field_is_refused_by_skypilot(tmp_path):
    (tmp_path / "task.yaml").write_text(TASK.read_text().replace("use_spot:", "use_spots:"))
    program = [programs_of("skypilot") / "python", Path(__file__).with_name("load_skypilot.py"), tmp_path / "task.yaml"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)})
    assert (done.returncode != 0, "use_spots" in done.stdout + done.stderr) == (True, True)


@pytest.mark.parametrize("nodes", [1, 2])
def test_its_command_runs_with_what_skypilot_sets_on_each_machine(task, tmp_path, nodes):
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER.format(python=sys.executable, entrypoint=ROOT / "entrypoint.py", short=SHORT | free_port()))
    docker.chmod(0o755)
    homes = [tmp_path / f"home{rank}" for rank in range(nodes)]
    for home in homes:
        (home / "data").mkdir(parents=True)
        shutil.copy(ROOT / "job" / "demo" / "appointments.xlsx", home / "data" / "mine.xlsx")
    started = [start(task, tmp_path, home, rank, nodes) for rank, home in enumerate(homes)]
    said = [one.communicate(timeout=300)[0] for one in started]
    assert [one.returncode for one in started] == [0] * nodes, said
    assert (homes[0] / "runs" / "output" / "mine" / "adapter" / "adapter_model.safetensors").exists()
    assert [list((home / "runs" / "output").iterdir()) for home in homes[1:]] == [[]] * (nodes - 1)


def start(task: dict, folder: Path, home: Path, rank: int, nodes: int) -> subprocess.Popen:
    """The task's command in the shell that SkyPilot runs it in."""
    said = {"SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_GPUS_PER_NODE": "1",
            "SKYPILOT_NODE_IPS": "127.0.0.1\n" * nodes}  # fmt: skip
    envs = task["envs"] | {"MODEL_ID": str(ROOT / "job" / "demo" / "base"), "HF_TOKEN": ""}
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(home)} | said | envs
    return subprocess.Popen(
        ["bash", "-c", task["run"]], env=environment, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_port() -> dict[str, str]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return {"MASTER_PORT": str(server.getsockname()[1])}
