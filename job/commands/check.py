"""The command `check`: whether a run's folder still is what the run left, file by file, and its adapter answers as it did."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from job.config.inputs import base_model
from job.config.settings import Settings
from job.data.prepared import read_prepared
from job.errors import DataError, InputMissing, OutOfMemory, VerificationFailed
from job.pipeline.damage import damage_of
from job.pipeline.records import AdapterRecord, ProofRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.verify import NO_MEMORY, HeldBase, answer_again
from job.system.console import print_lines
from job.system.hardware import detect
from job.system.lock import locked

log = logging.getLogger(__name__)


def check(settings: Settings, run: str | None = None) -> None:
    """Prints a line for each file of the run's folder that is wrong. Raises DataError if there is one; changes nothing.

    run: its name, or its folder in OUTPUT_DIR; RUN_NAME if None.
    """
    folder = RunFolder.of(settings, run)
    if not folder.path.is_dir():
        raise InputMissing(f"{folder.path}: no run there. Name one that is in OUTPUT_DIR={settings.output_dir}.")
    with _held(folder.path):
        lines = damage_of(folder) or _answers(settings, folder)
    if lines:
        print_lines(lines)
        raise DataError(
            f"{folder.path}: {len(lines)} {'file is' if len(lines) == 1 else 'files are'} wrong. Bring the folder back from a "
            "copy, or enter the command `run`, which makes again what it needs."
        )
    log.info("%s is sound%s", folder.path, "" if folder.was_done else ", as far as it is: no run was finished there")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Nobody else writes to `folder` meanwhile. One that cannot be written, such as a backup, needs no lock."""
    if os.access(folder, os.W_OK):
        with locked(folder):
            yield
    else:
        yield


def _answers(settings: Settings, folder: RunFolder) -> list[str]:
    """What is wrong with the adapter's answers to the rows that the run recorded."""
    if not folder.adapter.exists() or not folder.proof.exists():
        log.info("%s: nothing was evaluated there, so no answers are compared", folder.path)
        return []
    adapter, expected = AdapterRecord.read(folder.adapter_record), ProofRecord.read(folder.proof).expected
    device = detect(settings.device).device
    held = HeldBase(device, adapter.precision_on(device), adapter.quantization)
    rows, base = read_prepared(folder.data).evaluation, base_model(settings, adapter.base_model)
    try:
        difference = answer_again(folder.adapter, base, adapter.seq2seq, held, rows, expected)
    except VerificationFailed as error:
        return [str(error)]
    if difference is None:
        raise OutOfMemory(f"{folder.adapter}: its answers were not compared, {NO_MEMORY} to load it. Set DEVICE=cpu.")
    log.info("%s, loaded by a fresh process, against what the run recorded: %s", folder.adapter, difference)
    return [f"{folder.adapter}: does not answer as the run recorded: {difference}"] if difference.is_too_large else []
