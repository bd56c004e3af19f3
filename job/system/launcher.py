"""A process per GPU on this machine: started, stopped and watched by the one that a person started."""

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from job.errors import Interrupted, JobError, Transient
from job.system.durable import write_json
from job.system.signals import stop_signals

log = logging.getLogger("job")

FAILURES = "LORA_JOB_FAILURES"
"""Variable that names the folder in which a process leaves what it failed with."""
SECOND_GPU = Path("/dev/nvidia1")
POLL_S, AFTER_A_FAILURE_S = 0.1, 15
"""The others end by themselves when one is gone; a GPU's collectives may hang."""
FOLLOWS_FROM_ANOTHER = (Interrupted.exit_code, Transient.exit_code)
"""Exit codes that a process may have because another one failed: a stop may be passed on, the loss of a peer always follows."""
PR_SET_PDEATHSIG = 1


class RankFailed(JobError):
    """What one process of several failed with: its message, exit code and whether a retry can help."""

    def __init__(self, message: str, exit_code: int, retryable: bool) -> None:
        super().__init__(message)
        self.exit_code, self.retryable = exit_code, retryable


def process_count(wanted: str, device: str) -> int:
    """Processes to start on this machine: 1 where another launcher started this one. wanted: a number, or "auto"."""
    if "RANK" in os.environ:
        return 1
    if wanted != "auto":
        return int(wanted)
    if device == "cpu" or not SECOND_GPU.exists():
        return 1
    import torch  # noqa: PLC0415  which takes seconds, where a wrong variable is answered in less

    return max(1, torch.cuda.device_count())


def launch(command: list[str], processes: int, grace_s: float) -> None:
    """Runs `command` in so many processes of this machine, and waits for them.

    A stop signal is passed on; they have `grace_s` to seal a checkpoint. Raises RankFailed with what the first of them that did not
    fail because of another failed with, KeyboardInterrupt after a stop signal.
    """
    with tempfile.TemporaryDirectory() as failures, stop_signals.deferred():
        shared = _shared_environment(processes, failures)
        started = [_start(command, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(processes)]
        codes = _wait(started, grace_s)
        stop_signals.raise_if_received()
        if failed := [(rank, code) for rank, code in codes.items() if code]:
            rank, code = min(failed, key=lambda end: FOLLOWS_FROM_ANOTHER.index(end[1]) if end[1] in FOLLOWS_FROM_ANOTHER else -1)
            raise _failure(Path(failures) / str(rank), rank, code)


def report_failure(error: BaseException, exit_code: int) -> None:
    """Leaves what this process failed with for the one that started it, if one did."""
    if folder := os.environ.get(FAILURES):
        failure = {"message": str(error), "exit_code": exit_code, "retryable": getattr(error, "retryable", False)}
        with contextlib.suppress(OSError):
            write_json(Path(folder, os.environ["RANK"]), failure)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    """A process that a terminal's Ctrl-C does not reach, which would be a second signal, and that ends with this one."""
    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509  no threads here


def _shared_environment(processes: int, failures: str) -> dict[str, str]:
    """The variables of all processes; a port and a number of threads that a person set stay."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": os.environ.get("MASTER_PORT") or str(_free_port())}
    return {"OMP_NUM_THREADS": str(threads)} | os.environ | meeting | {"WORLD_SIZE": str(processes), FAILURES: failures}


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _die_with_parent() -> None:
    """Called in a new process: where the one that started it is killed, it is stopped too, and seals a checkpoint."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(started: list[subprocess.Popen], grace_s: float) -> dict[int, int]:
    """Exit codes by rank, in the order in which the processes ended."""
    codes: dict[int, int] = {}
    deadline, is_stopping = float("inf"), False
    try:
        while len(codes) < len(started):
            time.sleep(POLL_S)
            codes |= {rank: code for rank, one in enumerate(started) if rank not in codes and (code := one.poll()) is not None}
            if stop_signals.received and not is_stopping:
                is_stopping, deadline = True, min(deadline, time.monotonic() + grace_s)
                _signal_all(started, signal.SIGTERM)
            elif any(codes.values()) and not stop_signals.received:
                deadline = min(deadline, time.monotonic() + AFTER_A_FAILURE_S)
            if time.monotonic() >= deadline:
                _signal_all(started, signal.SIGKILL)
    finally:
        _signal_all(started, signal.SIGKILL)
    return codes


def _signal_all(started: list[subprocess.Popen], number: int) -> None:
    for process in started:
        if process.poll() is None:
            process.send_signal(number)


def _failure(report: Path, rank: int, code: int) -> RankFailed:
    where = f"rank {rank} on {socket.gethostname()}"
    if report.exists():
        content = json.loads(report.read_text())
        return RankFailed(f"{where}: {content['message']}", content["exit_code"], content["retryable"])
    if code < 0:
        reason = " The machine's memory may have run out." if code == -signal.SIGKILL else ""
        message = f"{where}: the process was killed by {signal.Signals(-code).name}.{reason} Run the same command again to resume."
        return RankFailed(message, Transient.exit_code, retryable=True)
    return RankFailed(f"{where}: the process ended with exit code {code}. See the log.", code, code >= 128)
