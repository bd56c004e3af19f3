"""What of a run's folder is not as it was written: a line a file."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from job.data.prepared import prepared_damage
from job.errors import DataError
from job.pipeline.records import AdapterRecord, PlanRecord, ProofRecord, Record, SettingsRecord, StatusRecord, VerdictRecord
from job.pipeline.run_folder import RunFolder
from job.publish.adapter import weights_damage
from job.system.seal import damage
from job.training.checkpoints import BEST, STEP, checkpoints_of

log = logging.getLogger(__name__)


def damage_of(folder: RunFolder) -> list[str]:
    """A line for each file of `folder` that is wrong, or missing though the run is done; empty where all of it is sound."""
    lines = list(_records(folder))
    if folder.manifest.exists() and not folder.status.exists():
        lines.append(f"{folder.status}: is missing")
    if lines:
        return lines  # who cannot read these cannot say what else should be there
    done = StatusRecord.read(folder.status) if folder.was_done else None
    if done and done.sealed:
        lines += _lines(folder.path, complete=False)
    elif done:
        lines += [f"{folder.path / name}: is missing" for name in folder.missing]
    if done or folder.adapter.exists():
        lines += _adapter(folder)
    if done or folder.data.exists():
        lines += _found(folder.data, lambda: [f"{folder.data}: {what}" for what in prepared_damage(folder.data)])
    for checkpoint in sorted(checkpoints_of(folder.checkpoints, STEP) + checkpoints_of(folder.checkpoints, BEST)):
        lines += _lines(checkpoint)
    return lines + (_merged(folder) if folder.merged.exists() else [])


def _records(folder: RunFolder) -> Iterator[str]:
    """Those that cannot be read as what they are."""
    records: dict[Path, type[Record]] = {
        folder.status: StatusRecord, folder.settings: SettingsRecord, folder.plan: PlanRecord, folder.proof: ProofRecord,
        folder.verdict: VerdictRecord, folder.adapter_record: AdapterRecord,
    }  # fmt: skip
    for path, record in records.items():
        try:
            if path.exists():
                record.read(path)
        except DataError:
            yield f"{path}: cannot be read as the JSON that was written"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror})"


def _adapter(folder: RunFolder) -> list[str]:
    if not folder.adapter_record.exists():
        return [f"{folder.adapter_record}: is missing"]
    found = _lines(folder.adapter) if AdapterRecord.read(folder.adapter_record).sealed else []
    return found or [f"{folder.adapter}: {what}" for what in weights_damage(folder.adapter)]


def _merged(folder: RunFolder) -> list[str]:
    try:
        sealed = json.loads(folder.comparison.read_text()).get("sealed")
    except (OSError, ValueError, AttributeError):
        return [f"{folder.comparison}: is not what was written"]
    if not sealed:
        log.warning("%s: without a manifest, as an older version left it: not checked", folder.merged)
    return _lines(folder.merged) if sealed else []


def _lines(folder: Path, complete: bool = True) -> list[str]:
    """A line for each file of a sealed folder that is wrong."""
    return _found(folder, lambda: [f"{folder / name}: {what}" for name, what in damage(folder, complete).items()])


def _found(folder: Path, look: Callable[[], list[str]]) -> list[str]:
    """The lines that `look` finds of `folder`; one in all where the disk gives a file back no more."""
    try:
        return look()
    except OSError as error:
        return [f"{error.filename or folder}: cannot be read ({error.strerror})"]
