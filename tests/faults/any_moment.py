"""Runs commands in forked children that get a signal at a moment of their own; one import of torch for hundreds of them.

Reads a JSON object a line: folder, variables, arguments, and if a signal is wanted its name in `signal` and when: `at_call` (at the
first call of the so many-th function of the job) or `with_children` (once so many processes of the job run, which are slowed down),
where `whom` may be "child" for one of these. Writes one a line: code (negative for a signal), functions (of the job that were
called), left (processes in that folder afterwards), locked (whether the run's folder is).
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import datasets
import psutil
import torch

import entrypoint
from job.commands import compare, doctor, evaluate, merge, plan, predict, prepare, run, train  # noqa: F401  what a child would import
from job.data import tokenise
from job.publish import verification
from job.system.signals import stop_signals
from tests.conftest import run_reload_here
from tests.faults.forked import enter

torch.set_num_threads(1)
JOB = str(Path(entrypoint.__file__).parent / "job")
LIMIT_S, LEFT_S = 180, 5
"""For a command, and for what it has started to end after it."""


def child(order: dict) -> None:
    os.setpgid(0, 0)
    enter(order)
    tokenise.ROWS_A_PROCESS = 10
    if not order.get("real_proof"):
        verification.run_script = run_reload_here
    if order.get("with_children"):
        slow_workers_down(os.getpid())
    code = 99
    try:
        with stop_signals.deferred():
            stop_signals.watch(deferred=True)
            sys.settrace(signal_at(order.get("at_call"), order.get("signal")))
            code = entrypoint.main(order["arguments"])
            sys.settrace(None)
    finally:
        os._exit(code)


def slow_workers_down(job: int) -> None:
    usual = datasets.Dataset.map

    def slow(self: datasets.Dataset, *arguments: object, **options: object) -> datasets.Dataset:
        if os.getpid() != job:
            time.sleep(1)
        return usual(self, *arguments, **options)

    datasets.Dataset.map = slow


def signal_at(place: int | None, name: str | None) -> Callable[[FrameType, str, object], None]:
    """A tracer that counts the functions of the job in the file `functions`, and sends the signal at the `place`-th."""
    job, seen, called = os.getpid(), set(), 0

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal called
        code = frame.f_code
        if code in seen:
            return
        seen.add(code)
        if code.co_filename.startswith(JOB) and os.getpid() == job:
            called += 1
            Path("functions").write_text(f"{called} {code.co_qualname}")
            if place == called and name:
                os.kill(job, signal.Signals[name])

    return trace


def wait(job: int, order: dict) -> int:
    """The exit code of the process, which or whose child gets the signal once it has so many children."""
    wanted, deadline = order.get("with_children"), time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(job, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if wanted and len(children := psutil.Process(job).children()) >= wanted:
            time.sleep(0.3)
            os.kill(children[-1].pid if order.get("whom") == "child" else job, signal.Signals[order["signal"]])
            wanted = None
        time.sleep(0.005)
    os.kill(job, signal.SIGKILL)
    os.waitpid(job, 0)
    return 98


def still_there(folder: str) -> list[str]:
    """The processes that run in `folder`, once they had time to end."""
    deadline = time.monotonic() + LEFT_S
    while (found := [line for process in psutil.process_iter() if (line := works_in(process, folder))]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    return found


def works_in(process: psutil.Process, folder: str) -> str | None:
    try:
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == folder else None
    except psutil.Error:
        return None


def is_locked(folder: str) -> bool:
    for path in Path(folder).glob("output/*/.lock"):
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


for line in sys.stdin:
    order = json.loads(line)
    process = os.fork()
    if process == 0:
        child(order)
    code = wait(process, order)
    left = still_there(order["folder"])
    noted = Path(order["folder"], "functions")
    count, _, name = noted.read_text().partition(" ") if noted.exists() else ("0", "", "")
    answer = {"code": code, "functions": int(count), "last": name, "left": left, "locked": is_locked(order["folder"])}
    print(json.dumps(answer), flush=True)
