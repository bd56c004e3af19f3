"""The command `status`: how far a run is that is under way elsewhere, as its status.json has it."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta

from job.config.settings import Settings
from job.errors import InputMissing
from job.pipeline.live import describe_figures
from job.pipeline.records import StatusRecord
from job.pipeline.run_folder import OF_SWEEP, RunFolder
from job.system.console import print_lines

BAR = 30
"""Characters of the bar."""
SILENT_S = 120
"""Seconds without a sign of life after which a run may be dead; loading a large model takes as long."""


def status(settings: Settings, run: str | None = None) -> None:
    """Prints how far `run`, or the sweep of that name, is; the one that RUN_NAME names if none is given.

    Raises InputMissing where none is there.
    """
    asked = RunFolder.of(settings, run)
    folder = next((one for one in (asked, RunFolder.of(settings, f"{asked.name}{OF_SWEEP}")) if one.status.exists()), None)
    if folder is None:
        raise InputMissing(f"{asked.path}: no run there, or none that has begun. Name one in OUTPUT_DIR={settings.output_dir}.")
    record, now = StatusRecord.read(folder.status), time.time()
    lines = [*describe_status(folder.name, record, now)]
    if (record.state, record.stage) == ("running", "sweep") and (running := _running_trials(folder)):
        lines.pop()  # it is the trials that give signs of life
        lines += [line for name, trial in running.items() for line in describe_status(name, trial, now)]
    print_lines(lines)


def _running_trials(folder: RunFolder) -> dict[str, StatusRecord]:
    """By their names, the trials of a sweep that run, or the best as it is evaluated."""
    records = {trial.name: StatusRecord.read(trial.status) for trial in folder.trials if trial.status.exists()}
    return {name: record for name, record in records.items() if record.state == "running"}


def describe_status(name: str, record: StatusRecord, now: float) -> Iterator[str]:
    """The lines of a run's status. now: seconds since 1970."""
    if record.state == "done":
        yield f"{name}: done, {record.time}"
        yield from (f"{label}: {text}" for label, text in (("verdict", record.summary), ("adapter", record.adapter)) if text)
        return
    if record.state in ("prepared", "trained"):
        yield f"{name}: {record.state}, {record.time}"
        return
    where = f" in {record.stage}" if record.stage else ""
    if record.state == "failed":
        yield f"{name}: failed{where}, {record.time}, exit code {record.exit_code}"
        yield f"{record.error}"
        yield "the same command goes on from here" if record.retryable else f"a retry cannot help: {record.fix}"
        return
    yield f"{name}: {record.stage}{_counts(record)}"
    if (share := _share(record)) is not None:
        left = f"   {timedelta(seconds=round(record.eta_s))} left" if record.eta_s is not None else ""
        yield f"[{'#' * round(BAR * share):-<{BAR}}] {100 * share:.0f} %{left}"
    if facts := ", ".join(_facts(record)):
        yield facts
    silent_s = max(0, round(now - datetime.strptime(record.time, "%Y-%m-%dT%H:%M:%S%z").timestamp()))
    yield f"last sign of life {silent_s} s ago" + (": it may be dead" if silent_s > SILENT_S else "")


def _counts(record: StatusRecord) -> str:
    if record.total_steps:
        return f", step {record.step} of {record.total_steps}"
    if not record.total_rows:
        return ""
    return f", {record.computing}: {record.rows} of {record.total_rows}{'' if record.stage == 'sweep' else ' rows'}"


def _share(record: StatusRecord) -> float | None:
    done, total = (record.step, record.total_steps) if record.total_steps else (record.rows, record.total_rows)
    return None if done is None or not total else done / total


def _facts(record: StatusRecord) -> Iterator[str]:
    if record.loss is not None:
        yield f"loss {record.loss:.4f}"
    if record.examples_per_s is not None:
        yield f"{record.examples_per_s:.1f} examples/s"
    if words := describe_figures(asdict(record)):
        yield words
    if record.last_checkpoint is not None:
        yield f"checkpoint of step {record.last_checkpoint}"
