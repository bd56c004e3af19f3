"""status.json, written: how far a run is, and how it ended."""

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from job.config.settings import Settings
from job.errors import EXIT_BUG, JobError
from job.pipeline.records import StatusRecord
from job.pipeline.run_folder import RunFolder
from job.system.ranks import this_rank
from job.training.supervision import HEARTBEAT_EVERY_S

TERMINATION_LOG, MAX_TERMINATION_BYTES = Path("/dev/termination-log"), 4096
"""Where Kubernetes reads what a container ended with."""
NEXT_TO_FAILURE = ("stage", "step", "total_steps", "percent", "loss", "last_checkpoint")
"""Fields of the last status that stay when a run fails."""


def write_status(folder: RunFolder, status: StatusRecord) -> None:
    """Replaces `status.json`, and Kubernetes' termination log once a run has ended. Rank 0 alone does."""
    if not this_rank().is_main:
        return
    status.write(folder.status)
    if status.state != "running" and TERMINATION_LOG.exists():
        with contextlib.suppress(OSError):
            TERMINATION_LOG.write_text(_shortened(status.dump()))


def write_stage(folder: RunFolder, stage: str) -> None:
    """Writes that a stage of the run begins."""
    write_status(folder, StatusRecord("running", stage=stage))


def write_progress(folder: RunFolder, stage: str, **progress: Any) -> None:
    """Writes how far a stage is. A disk that is full is no reason to stop: the next checkpoint will fail with a message."""
    with contextlib.suppress(OSError):
        write_status(folder, StatusRecord("running", stage=stage, **progress))


def progress_writer(folder: RunFolder, stage: str) -> Callable[[str, int, int], None]:
    """A function of (what is computed, rows done, rows in all) that writes them every few seconds."""
    written = float("-inf")

    def write(computing: str, done: int, total: int) -> None:
        nonlocal written
        if time.monotonic() - written >= HEARTBEAT_EVERY_S:
            written = time.monotonic()
            write_progress(folder, stage, computing=computing, rows=done, total_rows=total)

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
    with contextlib.suppress(OSError):
        if folder.status.exists():
            last = StatusRecord.read(folder.status)
            failed = replace(failed, **{name: getattr(last, name) for name in NEXT_TO_FAILURE})
        write_status(folder, failed)


def correct_failure(settings: Settings, error: JobError) -> None:
    """Writes why a run of several processes really failed, where rank 0 only knew that another process had ended."""
    folder = RunFolder.of(settings)
    if not folder.status.exists() or StatusRecord.read(folder.status).exit_code != error.exit_code:
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
