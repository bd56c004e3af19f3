"""What goes to the terminal: our lines, and of the libraries' only what a person can act on."""

import atexit
import contextlib
import errno
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Sequence
from typing import NoReturn, TextIO

from job.errors import OutputError, one_line
from job.system.live_view import LogAbove, live_view

log = logging.getLogger("job")

NOBODY_READS = (errno.EPIPE, errno.EIO)
"""Of a pipe, and of a terminal."""
OWN_LM_HEAD = "both are present in the checkpoints with different values"
"""transformers 5 wonders at every FLAN-T5, which has an lm_head of its own and keeps it."""


def configure(level: str) -> None:
    """Sets the logging of the whole process; called before the libraries are imported."""
    rank = os.environ.get("RANK", "0")
    form = "%(asctime)s %(message)s" if rank == "0" else f"%(asctime)s rank {rank}: %(message)s"
    logging.basicConfig(format=form, datefmt="%H:%M:%S", handlers=[LogAbove(sys.stderr)], level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_write_out)
    threading.excepthook = _report_thread
    log.setLevel(level.upper() if rank == "0" or level == "debug" else "WARNING")  # rank 0 speaks for all
    logging.getLogger("transformers.modeling_utils").addFilter(_is_news)
    logging.getLogger("huggingface_hub").propagate = False  # it prints its retries by itself
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses a package of fast kernels at every start on some CPUs
    warnings.filterwarnings("ignore", category=FutureWarning)  # peft 0.21 reads names that transformers 5.23 deprecates
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else a warning a fork; they are parallel by themselves
    os.environ.setdefault("TQDM_LEAVE", "")  # a library's bar goes once it is full: what it was for is in our lines
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def tabulate(rows: Sequence[Sequence[str]]) -> str:
    """`rows` of cells as lines whose columns are aligned; the last cell of a line is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def takes_colour(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal whose user has not said no to colours."""
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_lines(lines: Iterable[str]) -> None:
    """Prints `lines`; a character that the terminal's encoding lacks is a question mark.

    Where nobody reads any more (`plan | head`, a terminal that was closed), all further output goes nowhere. Raises OutputError.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        for line in lines:
            print(line.encode(encoding, "replace").decode(encoding), flush=True)
    except OSError as error:
        _give_up_output(error)


def finish_output() -> None:
    """Writes what is left of the output before Python does, which has another exit code where it cannot."""
    live_view.clear()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OutputError):
            _give_up_output(error)


def end_process(exit_code: int) -> NoReturn:
    """Ends this process, once its threads are done and whoever asked to be called at its end was called.

    Libraries are not taken down, as Python does: a native one that crashes there would give a run that went well another exit code.
    """
    try:
        finish_output()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        finish_output()
    finally:
        os._exit(exit_code)


def _give_up_output(error: OSError) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    if error.errno not in NOBODY_READS:
        raise OutputError(f"standard output: {error.strerror}. Send it to another place.") from error


def _is_news(record: logging.LogRecord) -> bool:
    return OWN_LM_HEAD not in record.getMessage()


def _write_out(record: logging.LogRecord) -> bool:
    """Makes a record of ours one line, whatever names and cells are in it."""
    if record.name.partition(".")[0] == log.name:
        record.msg, record.args = one_line(record.getMessage()), None
    return True


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Prints what a thread failed with, unless it keeps that for who waits for it, as TensorBoard's does."""
    if getattr(failed.thread, "exception", None) is not failed.exc_value:
        threading.__excepthook__(failed)
