"""Stop signals."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_second_signal_ends_the_process_at_once():
    code = "from job.system.signals import stop_signals as s; import time; s.watch()\nwith s.deferred(): print('go', flush=True); "
    with subprocess.Popen([sys.executable, "-c", f"{code}time.sleep(60)"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "the first is only noted while a step is computed"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 143
