"""status.json, written: how far a run is, and how it ended."""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from job.config.settings import Settings
from job.errors import EXIT_BUG, DataError, JobError, OutputError, Transient
from job.pipeline.live import describe_figures
from job.pipeline.records import StatusRecord
from job.pipeline.run_folder import RunFolder
from job.system.live_view import describe_left, live_view
from job.system.lock import locked
from job.system.ranks import this_rank
from job.system.signals import stop_signals
from job.training.supervision import HEARTBEAT_EVERY_S

log = logging.getLogger(__name__)

TERMINATION_LOG, MAX_TERMINATION_BYTES = Path("/dev/termination-log"), 4096
"""Where Kubernetes reads what a container ended with."""
NEXT_TO_FAILURE = ("stage", "step", "total_steps", "percent", "loss", "last_checkpoint")
"""Fields of the last status that stay when a run fails."""


def write_status(folder: RunFolder, status: StatusRecord) -> None:
    """Replaces `status.json`, and Kubernetes' termination log once a run has ended. Rank 0 alone does."""
    if not this_rank().is_main:
        return
    try:
        status.write(folder.status)
    except OSError:
        if status.state != "failed":
            raise
        _write_in_place(folder.status, status)
    finally:
        if status.state != "running" and TERMINATION_LOG.exists():
            with contextlib.suppress(OSError):
                TERMINATION_LOG.write_text(_shortened(status.dump()))


def _write_in_place(path: Path, status: StatusRecord) -> None:
    """Writes over the file that is there: a full disk has room for that, and "running" would be false."""
    with path.open("r+b") as file:
        file.write(json.dumps(status.dump(), indent=2, default=str).encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def write_stage(folder: RunFolder, stage: str) -> None:
    """Writes that a stage of the run begins. Raises KeyboardInterrupt after a stop signal, which a library may have swallowed."""
    stop_signals.raise_if_received()
    write_status(folder, StatusRecord("running", stage=stage))


def write_end(folder: RunFolder, state: Literal["prepared", "trained"]) -> None:
    """Writes that a command which is a part of a run has done that."""
    write_status(folder, StatusRecord(state))


def end_what_was_killed(folder: RunFolder) -> None:
    """Corrects the status of an attempt that could not write its end itself. The folder is locked, so nobody is at it."""
    with contextlib.suppress(DataError, FileNotFoundError):
        if StatusRecord.read(folder.status).state == "running":
            write_failure(folder, Transient("the last attempt was killed. Run the same command again to resume."))


def write_progress(folder: RunFolder, stage: str, **progress: Any) -> None:
    """Writes how far a stage is. A disk that is full is no reason to stop: the next checkpoint will fail with a message."""
    with contextlib.suppress(OSError):
        write_status(folder, StatusRecord("running", stage=stage, **progress))


def progress_writer(folder: RunFolder, stage: str, figures: Callable[[], dict[str, Any]] = dict) -> Callable[[str, int, int], None]:
    """A function of (what is computed, rows done, rows in all) that writes them every few seconds, and shows them.

    figures: what else is told, as `live_figures` gives it.
    """
    written, began = float("-inf"), time.monotonic()

    def write(computing: str, done: int, total: int) -> None:
        nonlocal written, began
        stop_signals.raise_if_received()
        now = time.monotonic()
        left_s = (now - began) / max(1, done) * (total - done)
        if is_due := now - written >= HEARTBEAT_EVERY_S:
            is_first, written = written == float("-inf"), now
            write_progress(folder, stage, computing=computing, rows=done, total_rows=total, eta_s=round(left_s), **figures())
        live_view.show(f"{stage}: {computing}", done, total, left_s, [describe_figures(figures())])
        if is_due and not is_first and not live_view.is_possible:
            log.info("%s: %d of %d rows, %s", computing, done, total, describe_left(left_s))
        if done >= total:
            began = now
            live_view.clear()

    return write


def write_failure(folder: RunFolder, error: BaseException) -> None:
    """Writes that `error` ended the run: cause, fix, exit code, whether a retry can help, and how far the run was."""
    message = str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
    failed = StatusRecord(
        "failed",
        error=message,
        fix=_last_sentence(message) if isinstance(error, JobError) else "Report it, with the log.",
        exit_code=getattr(error, "exit_code", EXIT_BUG),
        retryable=getattr(error, "retryable", False),
    )
    with contextlib.suppress(OSError, JobError):
        if folder.status.exists():
            last = StatusRecord.read(folder.status)
            failed = replace(failed, **{name: getattr(last, name) for name in NEXT_TO_FAILURE})
    with contextlib.suppress(OSError):
        write_status(folder, failed)


def correct_failure(settings: Settings, error: JobError) -> None:
    """Writes why a run of several processes really failed, where rank 0 could not, or only knew that another process had ended.

    Where rank 0 never had the folder, or the run in it was done before, nothing is written.
    """
    folder = RunFolder.of(settings)
    with contextlib.suppress(OSError, OutputError), locked(folder.path):
        status = StatusRecord.read(folder.status) if folder.status.exists() else None
        if status and (status.state == "running" or status.exit_code == Transient.exit_code != error.exit_code):
            write_failure(folder, error)


def _last_sentence(message: str) -> str:
    """What to do: our messages end with it."""
    return re.split(r"(?<=[.?!]) (?=[A-Z])", message)[-1]


def _shortened(status: dict[str, Any]) -> str:
    """`status` as JSON of at most 4096 bytes, which is what Kubernetes takes; its longest texts are halved until it fits."""
    while len(content := json.dumps(status, default=str, ensure_ascii=False).encode(errors="replace")) > MAX_TERMINATION_BYTES:
        longest = max(status, key=lambda name: len(str(status[name])))
        text = str(status[longest])
        status = status | {longest: text[: len(text) // 2]}
    return content.decode()
