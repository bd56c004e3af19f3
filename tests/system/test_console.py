"""What reaches the terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from job.errors import OutputError
from job.system.console import finish_output, print_lines, tabulate, takes_colour

ROOT = Path(__file__).parents[2]
SAY = """
import logging, sys, warnings
from job.system import console
console.configure(sys.argv[1])
logging.getLogger("job.data").debug("ours in detail")
logging.getLogger("job.data").info("ours")
logging.getLogger("transformers.trainer").info("a library's news")
logging.getLogger("transformers.trainer").warning("a library's warning")
models = logging.getLogger("transformers.modeling_utils")
models.warning("shared.weight and lm_head.weight: both are present in the checkpoints with different values, so we wonder")
models.warning("weights were newly initialized")
from huggingface_hub.utils import logging as hub  # its own handler
hub.get_logger("huggingface_hub.file_download").warning("retrying")
logging.getLogger("bitsandbytes").warning("no fast kernels")
warnings.warn("gone in v6", FutureWarning)
warnings.warn("look at this")
"""


def said(level: str) -> str:
    """What a process of its own writes to standard error, which is no terminal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TOKENIZERS_"))}
    done = subprocess.run([sys.executable, "-c", SAY, level], check=True, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.stdout == "", "a command's own output is alone on standard output"
    return done.stderr


def test_our_news_and_the_libraries_warnings_are_told_and_what_nobody_can_act_on_is_not():
    lines = said("info")
    for expected in ("ours\n", "a library's warning", "weights were newly initialized", "look at this"):
        assert expected in lines
    for hidden in ("ours in detail", "a library's news", "both are present", "no fast kernels", "gone in v6"):
        assert hidden not in lines
    assert lines.count("retrying") == 1, "the hub's library prints its lines itself"


@pytest.mark.parametrize(("level", "is_told"), [("debug", True), ("DEBUG", True), ("info", False), ("warning", False)])
def test_the_level_is_that_of_our_own_lines(level, is_told):
    assert ("ours in detail" in said(level)) is is_told


def test_a_line_begins_with_the_time_of_day():
    first = said("info").splitlines()[0]
    assert [len(part) for part in first.split()[0].split(":")] == [2, 2, 2]
    assert first.split()[1:] == ["ours"]


def test_without_a_terminal_the_libraries_draw_no_bars_unless_a_person_wants_them():
    show = "import os; from job.system import console; console.configure('info'); print(os.environ['HF_HUB_DISABLE_PROGRESS_BARS'])"
    for wanted, expected in ((None, "1"), ("0", "0")):
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": wanted} if wanted else {}
        done = subprocess.run([sys.executable, "-c", show], check=True, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == expected


def test_a_tables_columns_are_aligned_and_no_line_ends_in_spaces():
    table = tabulate([("GPU", "GiB", ""), ("V100-16GB", "7.5 of 15.8", "fp16"), ("T4", "-", "")])
    assert table == "GPU        GiB\nV100-16GB  7.5 of 15.8  fp16\nT4         -"


def test_a_table_without_rows_is_empty():
    assert tabulate([]) == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "takes"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_a_terminal_whose_user_wants_them(monkeypatch, stream, variables, takes):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert takes_colour(stream) is takes


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "a⏎ \u0645"), ("ascii", "a? ?")])
def test_what_a_terminal_cannot_write_stops_nothing(monkeypatch, encoding, shown):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    print_lines(["a⏎ \u0645", "b"])
    assert written.getvalue().decode(encoding).splitlines() == [shown, "b"]


def test_a_line_of_ours_stays_one_line_whatever_name_is_in_it():
    say = "from job.system.console import configure; import logging; configure('info'); "
    log = "logging.getLogger('job.x').warning('%s is read', 'a\\x1b[31m\\nverdict: better')"
    told = subprocess.run([sys.executable, "-c", say + log], check=True, cwd=ROOT, capture_output=True, text=True).stderr
    assert told[9:] == "a\\x1b[31m\\nverdict: better is read\n"


def test_a_thread_that_keeps_its_error_for_who_waits_prints_no_traceback_and_another_does():
    code = """
import threading
from job.system.console import configure
configure("info")
class Writer(threading.Thread):
    def run(self):
        self.exception = OSError("kept")
        raise self.exception
def fail():
    raise OSError("lost")
for thread in (Writer(), threading.Thread(target=fail)):
    thread.start()
    thread.join()
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True).stderr
    assert "kept" not in told
    assert told.endswith("OSError: lost\n")


PRINTS = """
import sys
from job.system.console import finish_output, print_lines
print_lines(["first"])
sys.stdin.read()  # until the reader is gone
print_lines(["second"])
print("third")
finish_output()
print("to the end", file=sys.stderr)
"""


def test_output_that_nobody_reads_any_more_ends_nothing():
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "first\n"
        process.stdout.close()
        process.stdin.close()
        assert (process.stderr.read(), process.wait()) == ("to the end\n", 0)


def test_output_that_cannot_be_written_is_told(monkeypatch):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputError, match=r"standard output: No space left on device\. Send it to another place\."):
            print_lines(["x"])
        print_lines(["from here on nowhere"])
        finish_output()


def test_without_any_output_nothing_is_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    print_lines(["x"])
    finish_output()
    assert not takes_colour(sys.stdout)


ENDS = """
import atexit, ctypes, sys, threading, time
from job.system.console import end_process

class Library:
    def __del__(self):
        ctypes.string_at(0)  # what crashes as it is taken down

library = Library()
atexit.register(print, "at the end")
threading.Thread(target=lambda: (time.sleep(0.3), print("of a thread"))).start()
print("not flushed")
end_process(int(sys.argv[1]))
"""


@pytest.mark.parametrize("exit_code", [0, 143])
def test_a_process_ends_with_its_code_after_its_threads_though_a_library_would_crash(exit_code):
    ended = subprocess.run([sys.executable, "-c", ENDS, str(exit_code)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("not flushed\nof a thread\nat the end\n", "")
    assert ended.returncode == exit_code
