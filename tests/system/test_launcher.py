"""The launcher, with tiny programs for workers: environment, exit codes, signals, and that nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job.errors import DiskFull, Interrupted
from job.system import launcher
from job.system.failures import RankFailed
from job.system.launcher import FAILURES, Node, launch, process_count, report_failure

ROOT = Path(__file__).parents[2]
PRELUDE = "import os, sys, time, signal, json, pathlib\nrank = int(os.environ['RANK'])\n"
TELLS = "from job.errors import *\nfrom job.system.launcher import report_failure\n"
LAUNCHER = """
import sys
from job.system.failures import RankFailed
from job.system.launcher import launch
from job.system.signals import stop_signals
stop_signals.watch()
try:
    launch([sys.executable, "-c", sys.argv[1]], 2, float(sys.argv[2]))
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(143)
except RankFailed as failed:
    print(failed)
    sys.exit(failed.exit_code)
"""
"""A process that does with the launcher what entrypoint.py does."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", FAILURES):
        monkeypatch.setenv(name, "")  # so that what the launcher sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(launcher, "POLL_S", 0.02)


def run(code: str, processes: int = 2, grace_s: float = 10, node: Node | None = None) -> None:
    launch([sys.executable, "-c", PRELUDE + code], processes, grace_s, node or Node())


def failure(code: str, processes: int = 2) -> RankFailed:
    with pytest.raises(RankFailed) as raised:
        run(code, processes)
    return raised.value


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


NOTE_PROCESS = "pathlib.Path(f'pid{rank}').write_text(str(os.getpid()))\n"


def noted_processes(count: int = 2) -> list[int]:
    """The processes of workers that ran NOTE_PROCESS, once all have."""
    paths = [Path(f"pid{rank}") for rank in range(count)]
    wait_for(lambda: all(path.exists() and path.read_text() for path in paths))
    return [int(path.read_text()) for path in paths]


def test_each_process_knows_its_rank_and_where_the_others_are(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
    run(f"pathlib.Path(f'env{{rank}}').write_text(json.dumps([os.environ[name] for name in {names}]))", processes=3)
    told = [json.loads(Path(f"env{rank}").read_text()) for rank in range(3)]
    assert [one[:4] for one in told] == [[str(rank), str(rank), "3", "127.0.0.1"] for rank in range(3)]
    assert len({one[4] for one in told}) == 1
    assert 1024 < int(told[0][4]) < 65536
    assert [one[5] for one in told] == ["2", "2", "2"], "seven cores for three processes"


def test_a_port_and_a_number_of_threads_that_are_set_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run("assert (os.environ['MASTER_PORT'], os.environ['OMP_NUM_THREADS']) == ('29555', '5')", node=Node(port=29555))


def test_a_terminals_ctrl_c_does_not_reach_the_processes():
    run("assert os.getsid(0) == os.getpid()")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit((138, 74)[rank])", 74),
        ("sys.exit((65, 138)[rank])", 65),
        ("sys.exit((143, 65)[rank])", 65),
        ("sys.exit((138, 143)[rank])", 143),
        ("time.sleep(rank); sys.exit((138, 143)[rank])", 143),
        ("time.sleep(rank); sys.exit((138, 74)[rank])", 74),
        ("time.sleep(1 - rank); sys.exit((70, 72)[rank])", 72),
        ("time.sleep(rank); sys.exit((70, 72)[rank])", 70),
        ("time.sleep(1 - rank); sys.exit((138, 143)[rank])", 143),
        ("sys.exit((0, 3)[rank])", 3),
    ],
)
def test_the_first_that_did_not_fail_because_of_another_decides_the_exit_code(code, expected):
    found = failure(code)
    assert (found.exit_code, found.retryable) == (expected, expected >= 128)


def test_a_process_that_leaves_no_message_is_told_by_rank_host_and_code():
    assert str(failure("sys.exit((0, 3)[rank])")) == (
        f"rank 1 on {socket.gethostname()}: the process ended with exit code 3. See the log."
    )


@pytest.mark.parametrize(
    ("error", "code", "retryable", "said"),
    [
        ("DiskFull('disk: full.')", 74, False, "disk: full."),
        ("Transient('disk: full.')", 138, True, "disk: full."),
        ("ValueError('no disk')", 70, False, "ValueError: no disk. Report it, with the log."),
    ],
)
def test_what_a_process_failed_with_reaches_the_one_that_started_it(error, code, retryable, said):
    code_of = "getattr(error, 'exit_code', EXIT_BUG)"
    found = failure(f"{TELLS}error = {error}\nif rank == 1: report_failure(error); sys.exit({code_of})")
    assert str(found).removeprefix(f"rank 1 on {socket.gethostname()}: ") == said
    assert (found.exit_code, found.retryable) == (code, retryable)


@pytest.mark.parametrize(("name", "memory"), [("SIGKILL", " The machine's memory may have run out."), ("SIGSEGV", "")])
def test_a_process_that_was_killed_is_138_and_a_retry_helps(name, memory):
    """The other one notices the loss of its peer, and ends with 138 first or later."""
    code = f"if rank == 1: os.kill(os.getpid(), signal.{name})\ntime.sleep(0.3); sys.exit(138)"
    found = failure("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n" + code)
    assert (found.exit_code, found.retryable) == (138, True)
    assert str(found) == (
        f"rank 1 on {socket.gethostname()}: the process was killed by {name}.{memory} Run the same command again to resume."
    )


def test_a_process_that_hangs_after_another_failed_is_killed_and_the_failure_is_told(monkeypatch):
    monkeypatch.setattr(launcher, "AFTER_A_FAILURE_S", 0.5)
    started = time.monotonic()
    code = "if rank == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)\ntime.sleep(0.3); sys.exit(65)"
    found = failure(NOTE_PROCESS + code)
    assert found.exit_code == 65
    assert time.monotonic() - started < 10
    assert not any(map(is_alive, noted_processes()))


def test_processes_that_work_alone_are_stopped_where_one_fails_and_have_the_grace_period(monkeypatch):
    monkeypatch.setattr(launcher, "AFTER_A_FAILURE_S", 0.1)
    code = "if rank == 1:\n    time.sleep(1)\n    sys.exit(65)\ntime.sleep(100)"
    with pytest.raises(RankFailed) as raised:
        launch([sys.executable, "-c", PRELUDE.replace("RANK", "LOCAL_RANK") + SEALS + code], 2, 10, node=None)
    assert raised.value.exit_code == 65
    assert Path("sealed0").exists()


def test_a_process_that_works_alone_and_ignores_the_stop_is_killed_after_the_grace_period():
    code = "if rank == 1:\n    time.sleep(0.5)\n    sys.exit(65)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(100)"
    started = time.monotonic()
    with pytest.raises(RankFailed):
        launch([sys.executable, "-c", PRELUDE.replace("RANK", "LOCAL_RANK") + NOTE_PROCESS + code], 2, 1, node=None)
    assert 1 < time.monotonic() - started < 20
    assert not any(map(is_alive, noted_processes()))


def test_a_process_that_ends_well_does_not_hurry_the_others(monkeypatch):
    monkeypatch.setattr(launcher, "AFTER_A_FAILURE_S", 0.1)
    run("if rank == 0: time.sleep(1.5)")


def start_launcher(code: str, grace_s: float = 10) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", LAUNCHER, PRELUDE + code, str(grace_s)], stdout=subprocess.PIPE, text=True)


SEALS = """
def seal(number, frame):
    time.sleep(0.5)
    pathlib.Path(f'sealed{rank}').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, seal)
"""
SLEEPS = "time.sleep(100)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_is_passed_on_and_waits_for_the_checkpoint(number):
    with start_launcher(SEALS + NOTE_PROCESS + SLEEPS) as process:
        workers = noted_processes()
        process.send_signal(number)
        said = process.communicate(timeout=20)[0]
    assert process.returncode == 143
    assert said == f"stopped by {number.name}. Run the same command again to resume.\n"
    assert Path("sealed0").exists()
    assert Path("sealed1").exists()
    assert not any(map(is_alive, workers))


def test_a_process_that_ignores_the_stop_is_killed_after_the_grace_period():
    started = time.monotonic()
    with start_launcher("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + NOTE_PROCESS + SLEEPS, grace_s=1) as process:
        workers = noted_processes()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 143
    assert time.monotonic() - started > 1
    assert not any(map(is_alive, workers))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, 138)])
def test_a_signal_to_one_process_ends_all_with_its_code(number, code):
    """The other one loses its peer, as gloo says it: 138."""
    waits = "\nother = int(pathlib.Path('pid1').read_text()) if rank == 0 else 0\n"
    waits = "time.sleep(0.5)\n" + waits + "while rank == 1 or 'Z' not in open(f'/proc/{other}/stat').read().rpartition(')')[2]:\n"
    with start_launcher(SEALS + NOTE_PROCESS + waits + "    time.sleep(0.01)\nsys.exit(138)") as process:
        workers = noted_processes()
        os.kill(workers[1], number)
        said = process.communicate(timeout=20)[0]
    assert process.returncode == code
    assert said.startswith(f"rank 1 on {socket.gethostname()}: ")
    assert not any(map(is_alive, workers))


def test_where_the_launcher_itself_is_killed_the_processes_are_stopped():
    with start_launcher(SEALS + NOTE_PROCESS + SLEEPS) as process:
        workers = noted_processes()
        process.kill()
        process.communicate(timeout=20)
    wait_for(lambda: not any(map(is_alive, workers)))
    assert Path("sealed0").exists()
    assert Path("sealed1").exists()


def test_the_folder_of_messages_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher.tempfile, "tempdir", str(tmp_path))
    run(f"assert os.path.isdir(os.environ[{FAILURES!r}])")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "device", "gpus", "expected"),
    [
        ("3", "cpu", 0, 3),
        ("1", "auto", 4, 0),
        ("auto", "cpu", 4, 0),
        ("auto", "auto", 4, 4),
        ("auto", "cuda", 2, 2),
        ("auto", "auto", 1, 0),
    ],
)
def test_a_number_is_taken_and_auto_is_a_process_for_each_gpu(monkeypatch, tmp_path, wanted, device, gpus, expected):
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number + 2}" for number in range(gpus))):
        (tmp_path / name).touch()
    monkeypatch.setattr(launcher, "DEVICES", tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert process_count(wanted, device) == expected
    assert process_count(wanted, device, nodes=3) == max(1, expected)


def test_the_second_machine_of_three_has_the_ranks_after_those_of_the_first():
    run(
        "names = 'RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT'.split()\n"
        "pathlib.Path(f'told{rank}').write_text(' '.join(os.environ[name] for name in names))",
        node=Node(rank=1, count=3, address="first.example", port=29500),
    )
    told = sorted(path.read_text() for path in Path().glob("told*"))
    assert told == ["2 0 6 first.example 29500", "3 1 6 first.example 29500"]


def test_a_failure_on_another_machine_names_its_rank_among_all():
    with pytest.raises(RankFailed, match=r"^rank 5 on .*: the process ended with exit code 65"):
        run("sys.exit(65 if rank == 5 else 138)", node=Node(rank=2, count=3, address="first.example", port=29500))


def test_cards_that_are_hidden_from_the_job_do_not_count(monkeypatch, tmp_path):
    for name in ("nvidia0", "nvidia1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(launcher, "DEVICES", tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert process_count("auto", "auto") == 0


@pytest.mark.parametrize("wanted", ["auto", "4"])
def test_a_process_that_was_launched_launches_none(monkeypatch, wanted):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert process_count(wanted, "cuda", nodes=2) == 0


def test_without_a_launcher_or_a_folder_a_failure_is_left_nowhere(monkeypatch, tmp_path):
    report_failure(DiskFull("x"))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(FAILURES, str(tmp_path / "gone"))
    report_failure(DiskFull("x"))
    monkeypatch.setenv(FAILURES, str(tmp_path))
    report_failure(Interrupted("stopped"))
    told = json.loads((tmp_path / "1").read_text())
    assert told == {"message": f"rank 1 on {socket.gethostname()}: stopped", "exit_code": 143, "retryable": True}


def test_processes_that_do_not_work_together_are_each_a_world_of_their_own_on_their_own_gpu(tmp_path):
    code = f"open('{tmp_path}/' + os.environ['LOCAL_RANK'], 'w').write(os.environ['WORLD_SIZE'] + os.environ['LOCAL_WORLD_SIZE'])"
    launch([sys.executable, "-c", "import os\n" + code], 2, 10, node=None)
    assert [(tmp_path / number).read_text() for number in "01"] == ["12", "12"]
    launch([sys.executable, "-c", "import os\n" + code], 2, 10)
    assert [(tmp_path / number).read_text() for number in "01"] == ["22", "22"]
