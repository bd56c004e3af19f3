"""What a forked child does to be the job of an order."""

import contextlib
import os
from typing import NoReturn

import entrypoint
from job.publish import verification
from job.system.signals import stop_signals
from tests.conftest import checked, run_reload_here


def enter(order: dict) -> None:
    """Goes to the order's folder, with its variables; what is printed from now on is in log.txt there."""
    os.chdir(order["folder"])
    os.environ |= checked(order["variables"])
    with open("log.txt", "a") as log:  # noqa: PTH123
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def end_as(arguments: list[str]) -> NoReturn:
    """Ends this process as the command would: with its exit code, 99 where it raises anything."""
    stop_signals.watch()
    verification.run_script = run_reload_here
    with contextlib.suppress(BaseException):
        os._exit(entrypoint.main(arguments))
    os._exit(99)
