"""Stop signals: noted while a step is computed, obeyed at once otherwise, and never by a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import DataError
from job.system.signals import NUMBERS, TOGETHER_S, StopSignals

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stop_signals() -> Iterator[StopSignals]:
    """Watching; afterwards the process answers signals as before."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    watching = StopSignals()
    watching.watch()
    yield watching
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_interrupts_at_once_and_says_how_to_resume(stop_signals, name):
    with pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(signal.Signals[name])
    assert str(raised.value) == f"stopped by {name}. Run the same command again to resume."
    assert stop_signals.received == name


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_that_is_deferred_is_noted_and_raised_where_it_is_asked_for(stop_signals, name):
    stop_signals.raise_if_received()
    with stop_signals.deferred():
        assert stop_signals.received is None
        signal.raise_signal(signal.Signals[name])
        assert stop_signals.received == name
    with pytest.raises(KeyboardInterrupt, match=f"stopped by {name}"):
        stop_signals.raise_if_received()


def test_after_the_block_a_signal_interrupts_again(stop_signals):
    with pytest.raises(ValueError, match="x"), stop_signals.deferred():
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_forked_worker_ends_quietly_and_its_parent_notes_nothing(stop_signals):
    with stop_signals.deferred():
        worker = os.fork()
        if worker == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)  # not reached
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 143
    assert stop_signals.received is None


def test_a_second_signal_ends_the_process_at_once():
    code = "from job.system.signals import stop_signals as s; import time; s.watch()\nwith s.deferred(): print('go', flush=True); "
    with subprocess.Popen([sys.executable, "-c", f"{code}time.sleep(60)"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "the first is only noted while a step is computed"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 143


SAYS = """
import sys, time
from job.system.signals import stop_signals as s
s.watch()
with s.deferred(), s.last_words(lambda: print("last words", flush=True)):
    print("go", flush=True)
    time.sleep(60)
"""


def sleeper(prefix: tuple[str, ...] = (), says: str = SAYS) -> subprocess.Popen:
    """A process that only notes the first signal, once it watches."""
    process = subprocess.Popen([*prefix, sys.executable, "-c", says], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "go\n"
    return process


@pytest.mark.parametrize(("first", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 143), (signal.SIGHUP, 129)])
def test_before_a_second_signal_ends_the_process_the_last_words_are_said(first, code):
    with sleeper() as process:
        process.send_signal(first)
        time.sleep(2 * TOGETHER_S)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=5)[0] == "last words\n"
        assert process.returncode == code


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_signals_of_one_stop_are_one(second):
    """A program in front of the job sends once more what the terminal has sent; systemd sends SIGHUP after SIGTERM."""
    with sleeper() as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(2 * TOGETHER_S if second == signal.SIGHUP else 0.01)
        process.send_signal(second)
        time.sleep(0.5)
        assert process.poll() is None
        process.kill()


def test_under_nohup_a_closed_terminal_is_nothing():
    with sleeper(("env", "--ignore-signal=HUP")) as process:
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            time.sleep(2 * TOGETHER_S)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "that was the first"
        process.kill()


def test_a_signal_that_was_noted_interrupts_where_signals_are_obeyed(stop_signals):
    with stop_signals.deferred():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), stop_signals.obeyed():
            raise AssertionError("not reached")
        stop_signals.received = None
        with stop_signals.obeyed(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        stop_signals.received = None
        signal.raise_signal(signal.SIGTERM)  # only noted again


def test_what_a_library_makes_of_a_stop_is_a_stop(stop_signals):
    def library() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            raise TimeoutError

    with pytest.raises(TimeoutError) as raised:
        library()
    meant = stop_signals.interruption_behind(raised.value)
    assert (meant.exit_code, meant.retryable) == (129, True)
    assert str(meant) == "stopped by SIGHUP. Run the same command again to resume."
    assert stop_signals.interruption_behind(ImportError("half")).exit_code == 129, "a signal has come"
    assert stop_signals.interruption_behind(DataError("row 3 is empty. Fill it.")) is None, "which is true whether one came or not"
    stop_signals.received = None
    assert stop_signals.interruption_behind(ImportError("half")) is None


def test_where_nothing_is_begun_the_first_signal_ends_the_process_at_once():
    """As while libraries are imported, which takes seconds and would make any error of a KeyboardInterrupt."""
    with sleeper(says=SAYS.replace("deferred(), s.last_words", "deferred(), s.ending_at_once")) as process:
        process.send_signal(signal.SIGHUP)
        assert process.communicate(timeout=5)[0] == "last words\n"
        assert process.returncode == 129
