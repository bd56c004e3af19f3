"""Runs jobs in forked children, each killed where it is told to be; one import of torch for hundreds of runs.

Reads a JSON object a line: folder, variables, and one of kill_after_s, stop_after_s (SIGTERM) or kill_at_sync (SIGKILL at the so
many-th time that something is put on the disk); writes one a line: code (negative for a signal), seconds, syncs.
"""

import json
import os
import signal
import sys
import time

import torch

from job.commands import run  # noqa: F401  what a child would import
from tests.faults.forked import end_as, enter

torch.set_num_threads(1)


def child(order: dict) -> None:
    enter(order)
    count_syncs(order.get("kill_at_sync"))
    end_as(["run"])


def count_syncs(deadly: int | None) -> None:
    """Counts calls of fsync in the file `syncs`; the `deadly` one kills the process before it does anything."""
    sync, calls = os.fsync, []

    def counted(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)
        with open("syncs", "w") as file:  # noqa: PTH123
            file.write(str(len(calls)))

    os.fsync = counted


def wait(process: int, limit_s: float, number: int) -> int:
    """The exit code of `process`, which gets the signal after `limit_s`."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, number)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


for line in sys.stdin:
    order = json.loads(line)
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        child(order)
    limit_s = order.get("kill_after_s") or order.get("stop_after_s") or 120
    code = wait(process, limit_s, signal.SIGTERM if order.get("stop_after_s") else signal.SIGKILL)
    print(json.dumps({"code": code, "seconds": time.monotonic() - started}), flush=True)
