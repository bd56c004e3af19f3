"""Workers: what they raise arrives, they end with their parent however that ends, and no lock is theirs."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from job.errors import DataError, Transient
from job.system.children import call_in_workers, reason_of_kill
from job.system.lock import locked

ROOT = Path(__file__).parents[2]
TWO_SLEEPERS = """
import os, sys, time
from functools import partial
from pathlib import Path
from job.system.children import call_in_workers
from job.system.lock import locked
from job.system.signals import stop_signals

def sleep(number):
    Path(f"worker{number}").write_text(str(os.getpid()))
    time.sleep(60)

stop_signals.watch()
with locked(Path()):
    call_in_workers([partial(sleep, number) for number in range(2)], "Do.")
"""


def test_each_part_is_called_once_in_a_process_of_its_own(tmp_path):
    call_in_workers([lambda number=number: (tmp_path / f"{number}-{os.getpid()}").touch() for number in range(3)], "")
    names = [path.name.split("-") for path in tmp_path.iterdir()]
    assert sorted(number for number, _ in names) == ["0", "1", "2"]
    assert len({process for _, process in names} - {str(os.getpid())}) == 3


def fail(error: BaseException) -> None:
    raise error


class Local(Exception):
    """Cannot be pickled: it takes two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def test_what_a_worker_raises_is_raised_with_its_traceback():
    with pytest.raises(DataError) as raised:
        call_in_workers([lambda: None, partial(fail, DataError("row 3 is empty. Fill it."))], "")
    assert str(raised.value) == "row 3 is empty. Fill it."
    assert "in fail\n" in raised.value.__notes__[0]


@pytest.mark.parametrize("length", [1, 10**6], ids=["short", "longer than a pipe holds"])
def test_an_error_that_cannot_be_handed_over_is_told_as_text(length):
    with pytest.raises(RuntimeError, match="Local: ab"):
        call_in_workers([partial(fail, Local("a", "b" * length))], "")


@pytest.mark.parametrize(("number", "reason"), [
    (signal.SIGKILL, "was killed by SIGKILL. The machine's memory may have run out. Do."),
    (signal.SIGUSR1, "was killed by SIGUSR1. Do."),
])  # fmt: skip
def test_a_worker_that_is_killed_is_passing_trouble_and_the_others_end(number, reason):
    started = time.monotonic()
    with pytest.raises(Transient) as raised:
        call_in_workers([lambda: time.sleep(60), lambda: os.kill(os.getpid(), number)], "Do.")
    assert str(raised.value) == f"a process that does a part of the work {reason}"
    assert time.monotonic() - started < 20
    assert not psutil.Process().children()


def test_a_worker_that_ends_by_itself_is_not_taken_for_one_that_has_done_its_part():
    with pytest.raises(Transient, match=r"ended with exit code 3\. Do\."):
        call_in_workers([lambda: os._exit(3)], "Do.")


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (-9, "was killed by SIGKILL. The machine's memory may have run out."),
        (137, "was killed by SIGKILL. The machine's memory may have run out."),
        (-11, "was killed by SIGSEGV."),
        (143, None),
        (138, None),
        (1, None),
        (70, None),
    ],
)
def test_what_ended_a_process_is_read_off_its_exit_code(exit_code, reason):
    assert reason_of_kill(exit_code) == reason


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("whom", ["the parent", "the group"])
def test_workers_end_with_their_parent_and_its_lock_is_free(tmp_path, number, whom):
    with subprocess.Popen(
        [sys.executable, "-c", TWO_SLEEPERS], cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as parent:  # fmt: skip
        workers = [psutil.Process(int(wait_for_text(tmp_path / f"worker{worker}"))) for worker in range(2)]
        (os.kill if whom == "the parent" else os.killpg)(parent.pid, number)
        parent.wait(20)
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (2, [])
    with locked(tmp_path):
        pass


def test_a_forked_process_that_outlives_the_holder_of_a_lock_does_not_hold_it(tmp_path):
    with locked(tmp_path):
        (read, write), (begun, begins) = os.pipe(), os.pipe()
        other = os.fork()
        if other == 0:
            os.write(begins, b"x")
            os.read(read, 1)
            os._exit(0)
        os.read(begun, 1)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.write(write, b"x")
        os.waitpid(other, 0)


def wait_for_text(path: Path) -> str:
    """What `path` holds, once it holds something."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.01)
    raise TimeoutError(path)
