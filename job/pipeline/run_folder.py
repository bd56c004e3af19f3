"""OUTPUT_DIR/RUN_NAME: where everything of a run lies. Looking at it changes nothing; `claim` is what does."""

import glob
from dataclasses import dataclass
from pathlib import Path

from job.config.inputs import run_name
from job.config.settings import Settings
from job.errors import DataError, InputMissing
from job.pipeline.records import AdapterRecord, SettingsRecord, StatusRecord
from job.publish.adapter import CARD, weights_damage
from job.system.seal import CHANGED, GONE, MANIFEST, MISSING, damage

SEALED = (
    "data.html", "evaluation.csv", "history.json", "plan.json", "proof.json", "report.html", "settings.json", "verdict.json",
)  # fmt: skip
"""The files that the manifest of a run that is done names; its folders have manifests of their own."""
WRITTEN = (
    "status.json", "adapter", "adapter.damaged", "adapter.partial", "checkpoints", "data", "data.html", "data.partial", "data.work",
    "evaluation.csv", "evaluation.new", "evaluation.partial", "history.json", "manifest.json", "merged", "merged.partial",
    "plan.json", "predictions", "proof.json", "report.html", "settings.json", "study.db", "sweep.html", "verdict.json",
)  # fmt: skip
"""What a run writes to its folder, status.json first: a folder that is half deleted is not a finished run."""
OF_SWEEP = "-sweep"
"""What the name of a sweep's folder has after that of the run; a trial's has a number after it."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path
    logs: Path
    """Folder of its curves."""

    @classmethod
    def of(cls, settings: Settings, run: str | None = None) -> "RunFolder":
        """The folder of `run`, its name or its folder as a shell completes it; None: of the run that these settings name."""
        name = Path(run).name if run else run_name(settings)
        return cls(settings.output_dir / name, settings.logs_dir / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def data_page(self) -> Path:
        return self.path / "data.html"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def damaged_adapter(self) -> Path:
        """An adapter that is set aside."""
        return self.path / "adapter.damaged"

    @property
    def adapter_record(self) -> Path:
        return self.adapter / "job.json"

    @property
    def merged(self) -> Path:
        return self.path / "merged"

    @property
    def comparison(self) -> Path:
        """What a merged model was compared with."""
        return self.merged / "merge.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def history(self) -> Path:
        return self.path / "history.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.csv"

    @property
    def new_evaluation(self) -> Path:
        """A folder of files that are about to replace the last evaluation; see `job.pipeline.new_evaluation`."""
        return self.path / "evaluation.new"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def proof(self) -> Path:
        return self.path / "proof.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def manifest(self) -> Path:
        return self.path / MANIFEST

    @property
    def is_begun(self) -> bool:
        """Whether something was trained here."""
        return self.adapter.exists() or self.checkpoints.exists()

    @property
    def is_done(self) -> bool:
        """Whether a run was finished here, none of its files is missing, and its adapter is the one that was proven."""
        return self.was_done and not self.missing and self.adapter.exists() and not self.adapter_damage

    @property
    def was_done(self) -> bool:
        """Whether a run was finished here, whatever became of its files."""
        return self.status.exists() and StatusRecord.read(self.status).state == "done"

    @property
    def missing(self) -> list[str]:
        """The files of a finished run that are gone."""
        if self.status.exists() and StatusRecord.read(self.status).sealed:
            return [name for name, what in damage(self.path, complete=False).items() if what == MISSING]
        return [path.name for path in (self.evaluation, self.proof) if not path.exists()]

    @property
    def adapter_damage(self) -> list[str]:
        """What of the adapter is not as it was written, a text a file; a card that a person changed is theirs.

        Raises OSError where it cannot be read: nobody should train it again for that.
        """
        try:
            sealed = AdapterRecord.read(self.adapter_record).sealed
        except (DataError, *GONE):
            return [f"{self.adapter_record.name} is damaged or missing"]
        found = damage(self.adapter, complete=False) if sealed else {}
        changed = [f"{name} {what}" for name, what in found.items() if (name, what) != (CARD, CHANGED)]
        return changed or weights_damage(self.adapter)

    @property
    def trials(self) -> list["RunFolder"]:
        """Those of a sweep's trials, where this is the sweep's folder."""
        found = self.path.parent.glob(f"{glob.escape(self.name)}-*")
        names = sorted(path.name for path in found if path.name.removeprefix(f"{self.name}-").isdecimal())
        return [RunFolder(self.path.with_name(name), self.logs.with_name(name)) for name in names]

    def read_settings(self) -> SettingsRecord:
        """The settings that this run was begun with; an empty record where there is none."""
        return SettingsRecord.read(self.settings) if self.settings.exists() else SettingsRecord()

    def check_adapter(self) -> None:
        """Raises InputMissing unless there is an adapter, DataError unless it is as it was written."""
        if not self.adapter.exists():
            raise InputMissing(f"{self.path}: no adapter there. Set RUN_NAME to a finished run in OUTPUT_DIR={self.path.parent}.")
        if found := self.adapter_damage:
            raise DataError(
                f"{self.adapter}: {'; '.join(found)}. Bring it back from a copy, or enter the command `run`, which makes it again."
            )
