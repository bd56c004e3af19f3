"""Runs commands in forked children whose every call on their own files is watched; one import of torch for hundreds of runs.

Reads a JSON object a line: folder, command, variables, and either `fail` (from which call to which, which error) or `power` (before
which call it is cut, a seed), or none of them. Writes one a line: code, seconds, and the calls as texts.
"""

import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from job.commands import evaluate, merge, predict, prepare, run  # noqa: F401  what a child would import
from tests.faults.forked import end_as, enter
from tests.faults.lost_writes import Disk
from tests.faults.watched_calls import Call, Listener, ask_first

OWN = ("output", "logs", "answers")
"""What of a job's folder it makes itself, and so changes the folder."""
LIMIT_S = 120


def child(order: dict, channel: socket.socket) -> None:
    enter(order)
    ask_first(channel)
    end_as(order["command"])


def calls_of(listener: Listener, process: int, folder: Path) -> Iterator[tuple[int, Call]]:
    """Each call on a file that is the job's own, with the number to answer; all others are let through."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        asked = listener.next(20)
        if asked is None:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
        elif is_own(asked[1], folder):
            yield asked
        else:
            listener.answer(asked[0])
    os.kill(process, signal.SIGKILL)


def is_own(call: Call, folder: Path) -> bool:
    inside = [path.relative_to(folder).parts for path in call.paths if path.is_relative_to(folder)]
    return any(not parts or parts[0].startswith(OWN) for parts in inside)


def text(call: Call, folder: Path) -> str:
    """What a call does, as a table has it."""
    kind = "create" if call.creates else "open" if call.operation == "open" else call.operation
    return " ".join([kind, *(os.path.relpath(path, folder) for path in call.paths)])


def obey(order: dict) -> dict:
    folder, seen = Path(order["folder"]).resolve(), []
    fail, power = order.get("fail"), order.get("power")
    disk = Disk(folder) if power else None
    mine, theirs = socket.socketpair()
    process = os.fork()
    if process == 0:
        child(order, theirs)
    listener = Listener(mine)
    for number, call in calls_of(listener, process, folder):
        seen.append(text(call, folder))
        if disk and len(seen) == power[0]:
            os.kill(process, signal.SIGKILL)
            break
        if disk:
            disk.see(call)
        listener.answer(number, fail[2] if fail and fail[0] <= len(seen) <= fail[1] else 0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    listener.close()
    if disk:
        disk.lose(random.Random(power[1]))
        disk.close()
    return {"code": code, "calls": seen}


if __name__ == "__main__":
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for line in sys.stdin:
        started = time.monotonic()
        answer = obey(json.loads(line))
        print(json.dumps(answer | {"seconds": time.monotonic() - started}), flush=True)
