"""Processes that this one starts for a part of its work: they end when it ends, however that happens."""

import contextlib
import copy
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from job.errors import Transient
from job.system.signals import NUMBERS

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
"""Loaded here: between fork and exec nothing may be."""
LOOK_S = 1.0
"""How often a worker looks whether its parent is there, where the kernel does not tell it."""
FORK = multiprocessing.get_context("fork")


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Called in a new process: the kernel sends it this signal once the thread that started it is gone. Linux alone has that."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, number)


def reason_of_kill(exit_code: int) -> str | None:
    """What ended a process that did not end by itself, as a sentence; None for any other exit code.

    exit_code: negative for a signal, as `subprocess` has it, or above 128, as a shell in between has it.
    """
    number = -exit_code if exit_code < 0 else exit_code - 128
    if number == signal.SIGKILL:
        return "was killed by SIGKILL. The machine's memory may have run out."
    return f"was killed by {signal.Signals(number).name}." if exit_code < 0 else None


def call_in_workers(parts: Sequence[Callable[[], object]], advice: str) -> None:
    """Calls each of `parts` in a forked process of its own, and waits for all. What they return is lost.

    Raises what the first that failed has raised, and Transient, with this advice, where one was killed. None of them is left
    afterwards, whatever happens.
    """
    workers: dict[Connection, BaseProcess] = {}
    try:
        for part in parts:
            end_to_read, end_to_write = FORK.Pipe(duplex=False)
            with end_to_write:  # no later worker shall hold it: its end tells the end of this one
                workers[end_to_read] = FORK.Process(target=_work, args=(part, os.getpid(), end_to_write), daemon=True)
                workers[end_to_read].start()
        running = set(workers)
        while running:
            for ended in wait(list(running)):
                running.remove(ended)  # type: ignore[arg-type]
                _check(workers[ended], ended, advice)  # type: ignore[index, arg-type]
    finally:
        for end_to_read, process in workers.items():
            if process.pid is not None:
                process.kill()
                process.join()
            end_to_read.close()


def _check(process: BaseProcess, end_to_read: Connection, advice: str) -> None:
    """Raises what the function of a worker, which is about to end, has raised."""
    with contextlib.suppress(EOFError):
        raise end_to_read.recv()
    process.join()
    if process.exitcode:
        reason = reason_of_kill(process.exitcode) or f"ended with exit code {process.exitcode}."
        raise Transient(f"a process that does a part of the work {reason} {advice}")


def _work(part: Callable[[], object], parent: int, end_to_write: Connection) -> None:
    """What a worker does. Its parent alone stops it: a terminal's Ctrl-C reaches both."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    if sys.platform != "linux":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)
    try:
        part()
    except BaseException as error:
        error.add_note(f"In a worker:\n{traceback.format_exc()}")
        _send(error, end_to_write)
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def _send(error: BaseException, end_to_write: Connection) -> None:
    """Sends `error`, or what it says where it can't be made again on the other side."""
    try:
        copy.copy(error)
        end_to_write.send(error)
    except Exception:
        end_to_write.send(RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
