"""Stop signals: noted while a step is computed, obeyed at once otherwise, and never by a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.system.signals import StopSignals

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stop_signals() -> Iterator[StopSignals]:
    """Watching; afterwards the process answers signals as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    watching = StopSignals()
    watching.watch()
    yield watching
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_interrupts_at_once_and_says_how_to_resume(stop_signals, name):
    with pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(signal.Signals[name])
    assert str(raised.value) == f"stopped by {name}. Run the same command again to resume."
    assert stop_signals.received == name


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
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
