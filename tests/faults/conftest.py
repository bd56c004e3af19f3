"""Jobs that are killed on purpose. `FAULTS=200` asks for so many kills (make test-faults); without it there are a few."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FAULTS", "12"))
TABLE: dict[str, int] = {}
"""What `make test-faults` prints: what was done, and how often."""


@pytest.fixture(scope="session")
def order() -> Iterator[Callable[..., dict]]:
    """Runs a job in a folder with variables, killed as the order says; see `server`."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def run(folder: Path, variables: dict, **kill: float) -> dict:
            server.stdin.write(json.dumps({"folder": str(folder), "variables": variables} | kill) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield run
        server.stdin.close()


@pytest.fixture(scope="session")
def count() -> Callable[[str, int], None]:
    """Adds to a line of the table."""

    def add(what: str, times: int = 1) -> None:
        TABLE[what] = TABLE.get(what, 0) + times

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, times in TABLE.items():
        terminalreporter.write_line(f"{what:60} {times:6}")
