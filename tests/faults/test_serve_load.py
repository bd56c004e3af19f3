"""Fifty clients at once: every question gets its own answer, the memory stays, and more clients get more answers a second."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.commands.test_serve import ENTRYPOINT, served
from tests.conftest import environment_with

CLIENTS = 50
SECONDS = float(os.environ.get("SERVE_SECONDS", "5"))
GROWTH = 3
"""Times as many answers as one client gets, at least; seven on an idle machine of two cores."""
MOST_MIB = 60
"""That the process may grow by while 50 clients ask, after it has met all of them."""


@dataclass
class Load:
    """What some clients got."""

    answers: list[tuple[str, str]] = field(default_factory=list)
    """The day that was asked for, and the answer."""
    failures: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


def ask_until(end: float, port: int, first_day: int, load: Load) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        day = first_day
        while time.monotonic() < end:
            body = json.dumps({"model": "demo", "prompt": f"Lunch at 4pm on March {day % 28 + 1}, 2027?"})
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            said = json.loads(reply.read())
            if reply.status == 200:
                load.answers.append((f"{day % 28 + 1:02d}", said["choices"][0]["text"]))
            else:
                load.failures.append(str(said))
            day += 1


def put_load(port: int, process: psutil.Process, clients: int) -> Load:
    load, end = Load(), time.monotonic() + SECONDS
    threads = [threading.Thread(target=ask_until, args=(end, port, number, load)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        load.memory_mib.append(process.memory_info().rss / 2**20)
        time.sleep(0.5)
    return load


@pytest.mark.slow
def test_fifty_clients_lose_nothing(tmp_path):
    short = {"DEVICE": "cpu", "MAX_STEPS": 250, "EVAL_STRATEGY": "no", "SAVE_STRATEGY": "no", "EVAL_MAX_ROWS": 8}
    ended = subprocess.run([sys.executable, ENTRYPOINT], env=environment_with(short), check=False, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    with served({}) as (process, address):
        port, watched = int(re.search(r":(\d+)$", address)[1]), psutil.Process(process.pid)
        one, many = (put_load(port, watched, clients) for clients in (1, CLIENTS))
    settled = many.memory_mib[len(many.memory_mib) // 4 :]
    for clients, load in ((1, one), (CLIENTS, many)):
        print(f"{clients} clients: {len(load.answers) / SECONDS:.1f} answers/s, {len(load.failures)} failures")
    print(f"memory: {settled[0]:.0f} -> {settled[-1]:.0f} MiB")
    assert not one.failures + many.failures
    right = sum(answer.startswith(f"2027-03-{day}") for day, answer in many.answers)
    assert right > 0.9 * len(many.answers), "answers got mixed up"
    assert len({day for day, _ in many.answers}) == 28
    assert max(settled) - settled[0] < MOST_MIB
    assert len(many.answers) > GROWTH * len(one.answers)
    assert Path("output/demo").exists()
