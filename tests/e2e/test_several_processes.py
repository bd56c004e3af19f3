"""A whole run in several processes: the adapter, the verdict and the exit codes of one, and nothing left behind."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import environment_with
from tests.faults.conftest import THOROUGH
from tests.ports import free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


class Run:
    """A job in a folder of its own, started any number of times."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.run = folder, folder / "output" / "r"
        rows = [
            {"input": f"the {number} of May" + " please" * (number % 7), "output_ground_truth": f"05-{number:02d}"}
            for number in range(1, 62)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.variables = {
            "MODEL_ID": str(model), "TRAIN_DATA": "rows.jsonl", "RUN_NAME": "r", "NUM_TRAIN_EPOCHS": "5", "LOGGING_STEPS": "1",
            "EVAL_STRATEGY": "epoch", "SAVE_STRATEGY": "steps", "SAVE_STEPS": "2", "MAX_NEW_TOKENS": "4", "LORA_DROPOUT": "0",
            "PER_DEVICE_TRAIN_BATCH_SIZE": "2", "METRICS": "exact_match,loss", "DEVICE": "cpu", "HF_HUB_OFFLINE": "1",
            "PREPROCESSING_NUM_WORKERS": "1",
        }  # fmt: skip

    def start(self, processes: int, **more: object) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "entrypoint.py"), "run"]
        environment = environment_with(self.variables | {"NPROC_PER_NODE": processes} | more)
        with (self.folder / "log.txt").open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def wait(self, launcher: subprocess.Popen, code: int) -> None:
        """Waits for the end. Nothing may be left of it."""
        assert launcher.wait(timeout=180) == code, (self.folder / "log.txt").read_text()[-3000:]
        assert self.processes() == []

    def processes(self) -> list[int]:
        """Every process that works in this folder."""
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if link.readlink() == self.folder:
                    found.append(int(link.parent.name))
            except OSError:  # it ended meanwhile
                continue
        return sorted(found)

    def wait_for_a_checkpoint(self) -> None:
        end = time.monotonic() + 120
        while not list(self.run.glob("checkpoints/checkpoint-*/manifest.json")):
            assert time.monotonic() < end, (self.folder / "log.txt").read_text()[-3000:]
            time.sleep(0.01)

    def adapter(self) -> torch.Tensor:
        tensors = load_file(self.run / "adapter" / "adapter_model.safetensors")
        return torch.cat([tensors[name].flatten() for name in sorted(tensors)])

    def logged(self, name: str) -> list[float]:
        return [entry[name] for entry in json.loads((self.run / "history.json").read_text()) if name in entry]

    def answers(self) -> list[tuple[str, str]]:
        with (self.run / "evaluation.csv").open(newline="", encoding="utf-8-sig") as table:
            return [(row["input"], row["adapter_output"]) for row in csv.DictReader(table)]

    def status(self) -> dict:
        return json.loads((self.run / "status.json").read_text())


@pytest.fixture(scope="module")
def begin(tmp_path_factory, t5_folder) -> Callable[[], Run]:
    return lambda: Run(tmp_path_factory.mktemp("several"), t5_folder)


@pytest.fixture(scope="module")
def one(begin) -> Run:
    job = begin()
    job.wait(job.start(1), 0)
    return job


@pytest.fixture(scope="module")
def two(begin) -> Run:
    job = begin()
    job.wait(job.start(2), 0)
    return job


def difference(first: Run, second: Run) -> float:
    return ((first.adapter() - second.adapter()).norm() / second.adapter().norm()).item()


def test_two_processes_end_with_the_adapter_the_losses_and_the_answers_of_one(one, two):
    assert difference(two, one) < 1e-5
    for name in ("loss", "eval_loss"):
        assert len(one.logged(name)) > 4
        assert two.logged(name) == pytest.approx(one.logged(name), rel=1e-5)
    assert two.answers() == one.answers()
    assert two.status()["state"] == "done"


def start_machines(job: Run, **of_one: dict[str, object]) -> list[subprocess.Popen]:
    """The job on two "machines", the second of which can write nowhere. of_one: variables of `first` or `second` alone."""
    machines = {"NNODES": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nowhere = {"OUTPUT_DIR": "/proc/none", "LOGS_DIR": "/proc/none"}
    first, second = of_one.get("first", {}), nowhere | of_one.get("second", {})
    return [job.start(1, **machines | {"NODE_RANK": 0} | first), job.start(1, **machines | {"NODE_RANK": 1} | second)]


def test_two_machines_are_stopped_by_a_signal_to_one_and_end_with_the_adapter_of_one(begin, one):
    job = begin()
    first, second = start_machines(job)
    job.wait_for_a_checkpoint()
    second.send_signal(signal.SIGTERM)
    assert [first.wait(timeout=180), second.wait(timeout=180)] == [143, 143]
    assert ending(job) == ("failed", 143, True)
    assert [machine.wait(timeout=180) for machine in start_machines(job)] == [0, 0], (job.folder / "log.txt").read_text()[-3000:]
    assert difference(job, one) < 1e-5
    assert job.answers() == one.answers()


@pytest.mark.parametrize(("fails", "variables"), [("second", {"MODEL_ID": "./gone"}), ("first", {"TRAIN_DATA": "gone.jsonl"})])
def test_what_one_machine_fails_with_for_good_ends_both_with_its_code_and_is_in_the_status(begin, fails, variables):
    job = begin()
    machines = start_machines(job, **{fails: variables})
    assert [machine.wait(timeout=180) for machine in machines] == [66, 66], (job.folder / "log.txt").read_text()[-3000:]
    assert job.processes() == []
    assert ending(job) == ("failed", 66, False)
    said, rank = job.status()["error"], f"rank {int(fails == 'second')} on {socket.gethostname()}: "
    assert "gone" in said
    assert said.startswith(rank) == (fails == "second"), "a machine's own failure needs no name"
    assert (job.folder / "log.txt").read_text().count(rank) >= 2
    assert f"{rank}{rank}" not in (job.folder / "log.txt").read_text()


def ending(job: Run) -> tuple:
    """What status.json says of a run that failed."""
    told = job.status()
    return told["state"], told["exit_code"], told["retryable"]


@pytest.mark.parametrize("rank", [0, 1] if THOROUGH else [1])
def test_a_killed_worker_is_138_and_one_process_finishes_what_two_began(begin, one, rank):
    job = begin()
    launcher = job.start(2)
    job.wait_for_a_checkpoint()
    workers = [process for process in job.processes() if process != launcher.pid]
    os.kill(workers[rank], signal.SIGKILL)
    job.wait(launcher, 138)
    assert ending(job) == ("failed", 138, True)
    job.wait(job.start(1), 0)
    assert difference(job, one) < 1e-5
    assert job.answers() == one.answers()


@pytest.mark.parametrize("stopped", ["the launcher", "a worker"] if THOROUGH else ["the launcher"])
def test_a_stop_is_143_with_a_checkpoint_and_two_resume_bit_for_bit(begin, two, stopped):
    job = begin()
    launcher = job.start(2)
    job.wait_for_a_checkpoint()
    workers = [process for process in job.processes() if process != launcher.pid]
    os.kill(launcher.pid if stopped == "the launcher" else workers[0], signal.SIGTERM)
    job.wait(launcher, 143)
    assert ending(job) == ("failed", 143, True)
    job.wait(job.start(2), 0)
    assert torch.equal(job.adapter(), two.adapter())
    assert job.logged("loss") == two.logged("loss")
