"""Other trackers than TensorBoard (W&B, MLflow, Comet, Trackio, ...), through accelerate, each where its package is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker


class Reporter(Protocol):
    """Takes what a training logs."""

    def start(self, step: int, total_steps: int) -> None:
        """Called before the first step; `step` is not 0 where a run is resumed."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Called with what was logged after `step`."""

    def close(self) -> None:
        """Called after the last step."""


class Tracker:
    """A tracker of accelerate's as a Reporter."""

    def __init__(self, name: str, run_name: str, settings: Mapping[str, object], folder: Path) -> None:
        """name: in lower case, as transformers calls it. settings: of the run. folder: for what the tracker keeps on the disk."""
        self.kind, self.run_name, self.settings, self.folder = LOGGER_TYPE_TO_CLASS[name], run_name, settings, folder

    def start(self, step: int, total_steps: int) -> None:  # noqa: ARG002  what every reporter is given
        options = {"logging_dir": str(self.folder)} if self.kind.requires_logging_directory else {}
        self.tracker: GeneralTracker = self.kind(self.run_name, **options)
        self.tracker.start()
        self.tracker.store_init_configuration({name: value if isinstance(value, int | float) else str(value)
                                               for name, value in self.settings.items()})  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.tracker.log(dict(values), step=step)

    def close(self) -> None:
        self.tracker.finish()
