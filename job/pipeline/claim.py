"""A run's folder, claimed by this process for these settings: one writer, one set of settings, and a status that is true."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from job import __version__
from job.config.identity import is_same, without_evaluation
from job.config.settings import Settings
from job.errors import SettingsError
from job.pipeline.new_evaluation import finish_replacing
from job.pipeline.records import SettingsRecord, library_versions
from job.pipeline.run_folder import WRITTEN, RunFolder
from job.pipeline.status import end_what_was_killed, write_failure
from job.system.durable import delete_folder
from job.system.file_system import file_system_error
from job.system.folders import ensure_writable, share_with_group
from job.system.lock import locked
from job.system.out_of_memory import out_of_memory_behind
from job.system.ranks import Ranks, this_rank
from job.system.signals import stop_signals
from job.training.curves import EVENTS

EPOCHS = "num_train_epochs"

log = logging.getLogger(__name__)


@contextmanager
def claimed_run(
    settings: Settings,
    identity: dict[str, object],
    overwrite: bool = False,
    check_finished: Callable[[RunFolder], None] = lambda _: None,
) -> Iterator[RunFolder]:
    """The run's folder, locked and held to settings of this `identity`; what is raised inside is written to status.json.

    check_finished: raises what is wrong with taking a finished run for this one; its status stays.
    Raises SettingsError if something was trained there with other settings, OutputError if the folder cannot be written or
    another process has it. Of several ranks rank 0 alone touches the folder; all of them meet here.
    """
    folder, ranks = RunFolder.of(settings), this_rank()
    if not ranks.is_main:
        with _failures_written(folder, ranks, settings):
            join_ranks(ranks, settings)
            yield folder
        return
    _make_writable(folder)
    with locked(folder.path):
        end_what_was_killed(folder)
        if overwrite:
            _clear(folder)
        finish_replacing(folder)
        is_trained = folder.adapter.exists() or folder.evaluation.exists()
        _check_settings(folder, without_evaluation(identity) if is_trained else identity)
        if folder.is_done:
            check_finished(folder)
        with _failures_written(folder, ranks, settings):
            join_ranks(ranks, settings)
            yield folder


@contextmanager
def _failures_written(folder: RunFolder, ranks: Ranks, settings: Settings) -> Iterator[None]:
    """Writes what is raised inside to status.json, as what it means."""
    stopped = partial(_write_stop, folder)
    with stop_signals.deferred(), stop_signals.last_words(stopped):
        try:
            with stop_signals.obeyed():
                yield
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if interruption := stop_signals.interruption_behind(error):
                _write_stop(folder)
                ranks.tell_failure(interruption)
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise interruption from error
            lost = ranks.lost_peer(error)
            cause = lost or out_of_memory_behind(error) or file_system_error(error, settings.written_folders)
            write_failure(folder, cause or error)
            if not lost:
                ranks.tell_failure(cause or error)
            if cause:
                raise cause from error
            raise


def _write_stop(folder: RunFolder) -> None:
    """Writes that a signal ended the run, unless it had done all it was to do."""
    if not folder.is_done:
        write_failure(folder, stop_signals.interruption())


def join_ranks(ranks: Ranks, settings: Settings) -> None:
    """Meets the other processes of the run, and takes this one's GPU."""
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    ranks.join(device, settings.join_minutes)


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


def drop_damaged_adapter(folder: RunFolder) -> None:
    """Sets an adapter aside that is not as it was written; without one, an evaluation of it does not count any more."""
    if folder.adapter.exists() and (found := folder.adapter_damage):
        log.warning(
            "%s: %s: set aside as %s, and made again from the last checkpoint",
            folder.adapter, "; ".join(found), folder.damaged_adapter.name,
        )  # fmt: skip
        shutil.rmtree(folder.damaged_adapter, ignore_errors=True)
        folder.adapter.rename(folder.damaged_adapter)
    if not folder.adapter.exists():
        folder.proof.unlink(missing_ok=True)


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
    for path in [folder.path / name for name in WRITTEN] + sorted(folder.logs.glob(f"{EVENTS}*")):
        delete_folder(path) if path.is_dir() else path.unlink(missing_ok=True)


def _check_settings(folder: RunFolder, settings: dict[str, object]) -> None:
    """Records `settings` as those of this run. Raises SettingsError if something was trained here with others.

    More epochs than before are accepted as long as the run is not done: it then trains to the new end. Settings that the
    version which began the run did not know are not compared.
    """
    if not folder.is_begun:
        SettingsRecord(settings).write(folder.settings)
        return
    record = folder.read_settings()
    _tell_versions(folder, record)
    before = record.settings
    different = [name for name, value in settings.items() if name in before and not is_same(name, before[name], value)]
    if different == [EPOCHS] and before[EPOCHS] < settings[EPOCHS] and not folder.adapter.exists():
        log.warning("NUM_TRAIN_EPOCHS was %g and is %g: the run trains to the new end", before[EPOCHS], settings[EPOCHS])
        update_settings(folder, settings)
    elif different:
        changes = ", ".join(f"{name.upper()} was {before[name]} and is {settings[name]}" for name in different)
        raise SettingsError(
            f"{folder.path} holds a run with other settings: {changes}. Choose another RUN_NAME, or set OVERWRITE=true."
        )


def _tell_versions(folder: RunFolder, record: SettingsRecord) -> None:
    """Says with which versions a run was begun, where they are not those that go on with it."""
    begun = {"lora-job": record.lora_job} | (record.libraries or {})
    now = {"lora-job": __version__} | library_versions()
    if others := [name for name, version in begun.items() if version not in (None, now.get(name))]:
        log.warning(
            "%s was begun with %s; this is %s",
            folder.path,
            ", ".join(f"{name} {begun[name]}" for name in others),
            ", ".join(f"{name} {now.get(name, 'nowhere')}" for name in others),
        )
