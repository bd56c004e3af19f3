"""Jobs that are killed on purpose. `FAULTS=200` asks for so many kills (make test-faults); without it there are a few."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import STOPPED

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FAULTS", "6"))
THOROUGH = KILLS > 100
"""Whether to try what differs little as well."""
TABLE: dict[str, int] = {}
"""What `make test-faults` prints: what was done, and how often."""


@contextmanager
def asked(program: str) -> Iterator[Callable[..., dict]]:
    """Has a program of this folder carry out orders, a line each, and answer what became of them."""
    command = [sys.executable, "-W", "ignore", "-m", f"tests.faults.{program}"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def ask(**order: object) -> dict:
            server.stdin.write(json.dumps(order, default=str) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.fixture(scope="session")
def order() -> Iterator[Callable[..., dict]]:
    """Runs a job in a folder with variables, killed as the order says; see `server`."""
    with asked("server") as ask:
        yield lambda folder, variables, **kill: ask(folder=folder, variables=variables, **kill)


@pytest.fixture(scope="session")
def count() -> Callable[[str, int], None]:
    """Adds to a line of the table."""

    def add(what: str, times: int = 1) -> None:
        TABLE[what] = TABLE.get(what, 0) + times

    return add


@pytest.fixture
def variables(t5_folder, write_rows, questions) -> dict:
    """Of a run of eight steps with a checkpoint after every second."""
    return {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | STOPPED


def weights() -> bytes:
    """Those of that run's adapter."""
    return Path("output/r/adapter/adapter_model.safetensors").read_bytes()


def status() -> dict:
    """How that run is."""
    return json.loads(Path("output/r/status.json").read_text())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, times in TABLE.items():
        terminalreporter.write_line(f"{what:60} {times:6}")
