"""OUTPUT_DIR/RUN_NAME: where everything of a run lies. Looking at it changes nothing; `claim` is what does."""

from dataclasses import dataclass
from pathlib import Path

from job.config.inputs import run_name
from job.config.settings import Settings
from job.errors import InputMissing
from job.pipeline.records import SettingsRecord, StatusRecord

WRITTEN = (
    "status.json", "adapter", "adapter.partial", "checkpoints", "data", "data.html", "data.partial", "data.work",
    "evaluation.csv", "history.json", "merged", "merged.partial", "plan.json", "predictions", "proof.json", "report.html",
    "settings.json", "verdict.json",
)  # fmt: skip
"""What a run writes to its folder, status.json first: a folder that is half deleted is not a finished run."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path
    logs: Path
    """Folder of its curves."""

    @classmethod
    def of(cls, settings: Settings) -> "RunFolder":
        """The folder of the run that these settings name."""
        return cls(settings.output_dir / run_name(settings), settings.logs_dir / run_name(settings))

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
    def adapter_record(self) -> Path:
        return self.adapter / "job.json"

    @property
    def merged(self) -> Path:
        return self.path / "merged"

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
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def proof(self) -> Path:
        return self.path / "proof.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def is_begun(self) -> bool:
        """Whether something was trained here."""
        return self.adapter.exists() or self.checkpoints.exists()

    @property
    def is_done(self) -> bool:
        """Whether a run was finished here."""
        return self.status.exists() and StatusRecord.read(self.status).state == "done"

    def read_settings(self) -> SettingsRecord:
        """The settings that this run was begun with; an empty record where there is none."""
        return SettingsRecord.read(self.settings) if self.settings.exists() else SettingsRecord()

    def check_adapter(self) -> None:
        """Raises InputMissing unless there is an adapter."""
        if not self.adapter.exists():
            raise InputMissing(f"{self.path}: no adapter there. Set RUN_NAME to a finished run in OUTPUT_DIR={self.path.parent}.")
