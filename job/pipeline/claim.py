"""A run's folder, claimed by this process for these settings: one writer, one set of settings, and a status that is true."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from job.config.identity import is_same, without_evaluation
from job.config.settings import Settings
from job.errors import DiskFull, Interrupted, JobError, SettingsError
from job.pipeline.run_folder import WRITTEN, RunFolder
from job.pipeline.status import write_failure
from job.system.durable import is_disk_full
from job.system.folders import ensure_writable, share_with_group
from job.system.lock import locked
from job.system.ranks import Ranks, this_rank

EPOCHS = "num_train_epochs"

log = logging.getLogger(__name__)


@contextmanager
def claimed_run(settings: Settings, identity: dict[str, object], overwrite: bool = False) -> Iterator[RunFolder]:
    """The run's folder, locked and held to settings of this `identity`; what is raised inside is written to status.json.

    Raises SettingsError if something was trained there with other settings, OutputError if the folder cannot be written or
    another process has it. Of several ranks rank 0 alone touches the folder; all of them meet here.
    """
    folder, ranks = RunFolder.of(settings), this_rank()
    if not ranks.is_main:
        with _failures_written(folder, ranks):
            _join(ranks, settings)
            yield folder
        return
    _make_writable(folder)
    with locked(folder.path):
        if overwrite:
            _clear(folder)
        _check_settings(folder, without_evaluation(identity) if folder.is_done else identity)
        with _failures_written(folder, ranks):
            _join(ranks, settings)
            yield folder


@contextmanager
def _failures_written(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Writes what is raised inside to status.json, as what it means."""
    try:
        yield
    except KeyboardInterrupt as stop:
        write_failure(folder, Interrupted(str(stop)))
        raise
    except Exception as error:
        cause = ranks.lost_peer(error) or _disk_full(error, folder.path)
        write_failure(folder, cause or error)
        if cause:
            raise cause from error
        raise


def _join(ranks: Ranks, settings: Settings) -> None:
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    ranks.join(device, settings.join_minutes)


@contextmanager
def disk_full_as_error(folder: Path) -> Iterator[None]:
    """Raises DiskFull where what happens inside fails because `folder` has no space left."""
    try:
        yield
    except Exception as error:
        if full := _disk_full(error, folder):
            raise full from error
        raise


def check_content(folder: RunFolder, content: dict[str, str]) -> None:
    """Records the fingerprints of what the run is made from. Raises SettingsError if it was begun from something else."""
    record = folder.read_settings()
    changed = [name for name, fingerprint in content.items() if record.content.get(name, fingerprint) != fingerprint]
    if folder.is_begun and changed:
        raise SettingsError(
            f"{folder.path} was begun with other content: {' and '.join(changed)} changed since. Bring it back, choose another "
            "RUN_NAME, or set OVERWRITE=true."
        )
    replace(record, content=record.content | content).write(folder.settings)


def update_settings(folder: RunFolder, settings: dict[str, object]) -> None:
    """Records `settings` as those of this run from now on."""
    record = folder.read_settings()
    replace(record, settings=record.settings | settings).write(folder.settings)


def _make_writable(folder: RunFolder) -> None:
    ensure_writable(folder.path.parent, "OUTPUT_DIR")
    share_with_group(folder.path.parent)
    ensure_writable(folder.path, "OUTPUT_DIR")
    ensure_writable(folder.logs, "LOGS_DIR")


def _clear(folder: RunFolder) -> None:
    """Deletes what an earlier run of this name left, and nothing else."""
    for path in [folder.path / name for name in WRITTEN] + sorted(folder.logs.glob("events.out.tfevents.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _check_settings(folder: RunFolder, settings: dict[str, object]) -> None:
    """Records `settings` as those of this run. Raises SettingsError if something was trained here with others.

    More epochs than before are accepted as long as the run is not done: it then trains to the new end. Settings that the
    version which began the run did not know are not compared.
    """
    if not folder.is_begun:
        replace(folder.read_settings(), settings=settings, content={}).write(folder.settings)
        return
    before = folder.read_settings().settings
    different = [name for name, value in settings.items() if name in before and not is_same(name, before[name], value)]
    if different == [EPOCHS] and before[EPOCHS] < settings[EPOCHS] and not folder.adapter.exists():
        log.warning("NUM_TRAIN_EPOCHS was %g and is %g: the run trains to the new end", before[EPOCHS], settings[EPOCHS])
        update_settings(folder, settings)
    elif different:
        changes = ", ".join(f"{name.upper()} was {before[name]} and is {settings[name]}" for name in different)
        raise SettingsError(
            f"{folder.path} holds a run with other settings: {changes}. Choose another RUN_NAME, or set OVERWRITE=true."
        )


def _disk_full(error: Exception, folder: Path) -> DiskFull | None:
    """What `error` means where it comes from a full disk."""
    if isinstance(error, JobError) or not folder.exists() or not is_disk_full(error, folder):
        return None
    return DiskFull(f"OUTPUT_DIR or LOGS_DIR: no space left for {folder}. Free some and run the same command again.")
