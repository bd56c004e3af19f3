"""A process per GPU on this machine: started, stopped and watched by the one that a person started."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from job.errors import Interrupted, Transient
from job.system.children import die_with_parent, reason_of_kill
from job.system.durable import write_text
from job.system.failures import RankFailed, from_text, name_of, to_text
from job.system.signals import stop_signals

log = logging.getLogger("job")

FAILURES = "LORA_JOB_FAILURES"
"""Variable that names the folder in which a process leaves what it failed with."""
DEVICES = Path("/dev")
POLL_S, AFTER_A_FAILURE_S = 0.1, 15
"""The others of a run end by themselves when one is gone; a GPU's collectives may hang."""
AT_ONCE_S = 5
"""What a process gets to end at once."""
FOLLOWS_FROM_ANOTHER = (Interrupted.exit_code, Transient.exit_code)
"""Exit codes that a process may have because another one failed: a stop may be passed on, the loss of a peer always follows."""


@dataclass(frozen=True)
class Node:
    """This machine among those of the run; each starts the processes of its own GPUs, as many as the others."""

    rank: int = 0
    count: int = 1
    address: str = "127.0.0.1"
    """Where the processes meet: machine 0."""
    port: int | None = None
    """None takes a free one, as only one machine can."""


def process_count(wanted: str, device: str, nodes: int = 1) -> int:
    """Processes to start on this machine, one of `nodes`; 0 where this one does it all, or another launcher started it.

    wanted: a number, or "auto".
    """
    if "LOCAL_RANK" in os.environ:
        return 0
    processes = _gpus(device) if wanted == "auto" else int(wanted)
    return processes if processes * nodes > 1 else 0


def _gpus(device: str) -> int:
    if device == "cpu" or len([*DEVICES.glob("nvidia[0-9]*")]) < 2:  # a container has those of its GPUs, by the machine's numbers
        return 1
    import torch  # noqa: PLC0415  which takes seconds, where a wrong variable is answered in less

    return max(1, torch.cuda.device_count())


def launch(command: list[str], processes: int, grace_s: float, node: Node | None = Node()) -> None:
    """Runs `command` in so many processes of this machine, and waits for them. node: None where each of them works alone.

    A stop signal is passed on; they have `grace_s` to seal a checkpoint, which those that work alone also have where another fails.
    Raises RankFailed with what the first failed with that did not fail because of another; KeyboardInterrupt after a stop signal.
    """
    with tempfile.TemporaryDirectory() as failures, stop_signals.deferred():
        shared, first = _shared_environment(processes, failures, node or Node()), node.rank * processes if node else 0
        shared |= {"LOCAL_WORLD_SIZE": str(processes)} | ({} if node else {"WORLD_SIZE": "1"})
        started = [_start(command, shared | {"RANK": str(first + one), "LOCAL_RANK": str(one)}) for one in range(processes)]
        with stop_signals.last_words(partial(_stop_at_once, started)):
            codes = {first + one: code for one, code in _wait(started, grace_s, alone=node is None).items()}
        stop_signals.raise_if_received()
        if failed := [(rank, code) for rank, code in codes.items() if code]:
            rank, code = min(failed, key=lambda end: FOLLOWS_FROM_ANOTHER.index(end[1]) if end[1] in FOLLOWS_FROM_ANOTHER else -1)
            raise _failure(Path(failures) / str(rank), rank, code)


def launched_for() -> str | None:
    """What all processes of one `launch` have in common and no others; None in a process that was not launched."""
    return os.environ.get(FAILURES)


def report_failure(error: BaseException) -> None:
    """Leaves what this process failed with for the one that started it, if one did."""
    if folder := os.environ.get(FAILURES):
        rank = os.environ["RANK"]
        with contextlib.suppress(OSError):
            write_text(Path(folder, rank), to_text(error, rank))


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    """A process that a terminal's Ctrl-C does not reach, which would be a second signal, and that ends with this one."""
    stopped = partial(die_with_parent, signal.SIGTERM)  # where this one is killed, they seal a checkpoint
    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=stopped)  # noqa: PLW1509  no threads here


def _shared_environment(processes: int, failures: str, node: Node) -> dict[str, str]:
    """The variables of all processes of this machine; a number of threads that a person set stays."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    meeting = {"MASTER_ADDR": node.address, "MASTER_PORT": str(node.port or _free_port())}
    size = {"WORLD_SIZE": str(node.count * processes), FAILURES: failures}
    return {"OMP_NUM_THREADS": str(threads)} | os.environ | meeting | size


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _wait(started: list[subprocess.Popen], grace_s: float, alone: bool) -> dict[int, int]:
    """Exit codes by the number of the process on this machine, in the order in which they ended.

    alone: whether none of them notices by itself that another has failed.
    """
    codes: dict[int, int] = {}
    deadline, is_stopping = float("inf"), False
    try:
        while len(codes) < len(started):
            time.sleep(POLL_S)
            codes |= {rank: code for rank, one in enumerate(started) if rank not in codes and (code := one.poll()) is not None}
            has_failed = any(codes.values())
            if (stop_signals.received or (has_failed and alone)) and not is_stopping:
                is_stopping, deadline = True, min(deadline, time.monotonic() + grace_s)
                _signal_all(started, signal.SIGHUP if stop_signals.received == "SIGHUP" else signal.SIGTERM)
            elif has_failed and not is_stopping:
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


def _stop_at_once(started: list[subprocess.Popen]) -> None:
    """Passes a second signal on, which ends each process at once, rank 0 after it has written why."""
    _signal_all(started, signal.SIGTERM)
    deadline = time.monotonic() + AT_ONCE_S
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
    _signal_all(started, signal.SIGKILL)


def _failure(report: Path, rank: int, code: int) -> RankFailed:
    where = name_of(rank)
    if report.exists():
        return from_text(report.read_text())
    if reason := reason_of_kill(code):
        message = f"{where}: the process {reason} Run the same command again to resume."
        return RankFailed(message, Transient.exit_code, retryable=True)
    return RankFailed(f"{where}: the process ended with exit code {code}. See the log.", code, code >= 128)
