"""The job by Ray Train, on a real Ray cluster of two nodes on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from tests.conftest import environment_with
from tests.engines.environments import programs_of

ROOT = Path(__file__).parents[2]
SHORT = {"RUN_NAME": "mine", "MAX_STEPS": 12, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2, "EVAL_STRATEGY": "no", "EVAL_MAX_ROWS": 4,
         "MAX_NEW_TOKENS": 4, "METRICS": "exact_match", "LORA_DROPOUT": 0, "DEVICE": "cpu"}  # fmt: skip


@pytest.fixture
def submit(tmp_path) -> Callable[..., subprocess.Popen]:
    """Starts the job on two Ray nodes of one CPU each, its log in log.txt."""

    def start(**variables: object) -> subprocess.Popen:
        python, folders = programs_of("ray") / "python", {"OUTPUT_DIR": tmp_path / "output", "LOGS_DIR": tmp_path / "logs"}
        command = [python, ROOT / "deploy/ray/submit.py", "--workers", "2", "--cpu", "--storage", tmp_path / "ray", "run"]
        quiet = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_V2_ENABLED": "1"}
        with (tmp_path / "log.txt").open("w") as log:
            return subprocess.Popen(
                [python, ROOT / "tests/engines/ray_cluster.py", *command], cwd=tmp_path, stdout=log, stderr=log,
                env=environment_with(SHORT | folders | variables) | quiet,
            )  # fmt: skip

    return start


def adapter(folder: Path) -> dict:
    return load_file(folder / "output" / "mine" / "adapter" / "adapter_model.safetensors")


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def job_processes(folder: Path) -> list[psutil.Process]:
    """The job's own, of every rank, not Ray's."""
    return [one for one in psutil.process_iter(["cmdline", "environ"]) if str(ROOT / "entrypoint.py") in (one.info["cmdline"] or ())
            and (one.info["environ"] or {}).get("OUTPUT_DIR") == str(folder / "output")]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """The adapter of one process without Ray."""
    folder = tmp_path_factory.mktemp("alone")
    program = [sys.executable, ROOT / "entrypoint.py", "run"]
    subprocess.run(program, cwd=folder, env=environment_with(SHORT), check=True, capture_output=True)
    return adapter(folder)


def test_a_rank_that_is_killed_is_started_again_by_ray_and_the_adapter_is_that_of_one_process(submit, undisturbed, tmp_path):
    cluster = submit()
    wait_for(lambda: list(tmp_path.glob("output/mine/checkpoints/checkpoint-*/manifest.json")), "no checkpoint")
    assert len(job_processes(tmp_path)) == 2
    os.kill(job_processes(tmp_path)[1].pid, signal.SIGKILL)
    assert cluster.wait(timeout=300) == 0, (tmp_path / "log.txt").read_text()[-5000:]
    said = (tmp_path / "log.txt").read_text()
    assert "attempt 1: exit code 138" in said
    assert "attempt 2: exit code 0" in said
    assert adapter(tmp_path).keys() == undisturbed.keys()
    for name, weights in adapter(tmp_path).items():
        assert (weights - undisturbed[name]).norm() < 1e-4 * undisturbed[name].norm(), name
    assert job_processes(tmp_path) == []


def test_what_a_retry_cannot_help_is_tried_once_and_its_exit_code_is_ours(submit, tmp_path):
    assert submit(LORA_R=-1).wait(timeout=300) == 78
    said = (tmp_path / "log.txt").read_text()
    assert "LORA_R" in said
    assert said.count("attempt ") == 1
