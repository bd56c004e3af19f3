"""What a run keeps as JSON: one typed record a file, with the number of its format and the versions that wrote it."""

import functools
import json
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from job import __version__
from job.errors import DataError, SettingsError, first_line
from job.evaluation.generate import Decoding
from job.evaluation.verdict import MetricComparison, Verdict
from job.plan.memory import TrainingPlan
from job.publish.verification import Answers, Difference
from job.system.durable import write_json

FORMAT = 2
"""Of all records that this version writes. lora-job 0.1.0 wrote no number: its format counts as 1."""
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes")


@functools.cache
def library_versions() -> dict[str, str]:
    """Name -> installed version, of the libraries that a result depends on."""
    return {library: version(library) for library in LIBRARIES}


def versions() -> dict[str, str]:
    """Name -> version of lora-job, Python and the libraries, for people."""
    return {"lora-job": __version__, "python": platform.python_version()} | library_versions()


class Record:
    """A JSON file of a run's folder. A field that is None is not written."""

    def dump(self) -> dict[str, Any]:
        """What the file holds."""
        written = {name: value for name, value in asdict(self).items() if value is not None}  # type: ignore[call-overload]
        return {"format": FORMAT, "lora_job": __version__, "libraries": library_versions()} | written

    def write(self, path: Path) -> None:
        """Puts the record at `path`, whole or not at all."""
        write_json(path, self.dump())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record at `path`.

        Raises FileNotFoundError, SettingsError for a newer format, and DataError for a file that is damaged.
        """
        try:
            content = json.loads(path.read_text())
            number = content.pop("format", 1)
            if number > FORMAT:
                raise SettingsError(
                    f"{path}: format {number}, written by lora-job {content.get('lora_job')}; this is {__version__}, which reads "
                    f"formats up to {FORMAT}. Use the newer lora-job, or choose another RUN_NAME."
                )
            return TypeAdapter(cls).validate_python(cls.from_format_1(content) if number == 1 else content)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise DataError(
                f"{path} is damaged ({first_line(error)}). Bring it back from a copy, or choose another RUN_NAME."
            ) from error

    @classmethod
    def from_format_1(cls, content: dict[str, Any]) -> dict[str, Any]:
        """What lora-job 0.1.0 wrote, as this version writes it."""
        return content


@dataclass(frozen=True)
class SettingsRecord(Record):
    """settings.json: what a run depends on."""

    settings: dict[str, Any] = field(default_factory=dict)
    """By their names, in lower case."""
    content: dict[str, str] = field(default_factory=dict)
    """Fingerprints of what settings do not determine: "the training data", "the base model"."""
    lora_job: str | None = field(default=None, compare=False)
    """The version that began the run, and its libraries: whoever writes this file again keeps them."""
    libraries: dict[str, str] | None = field(default=None, compare=False)

    @classmethod
    def from_format_1(cls, content: dict[str, Any]) -> dict[str, Any]:
        return {"content": content.pop("content", {}), "settings": content}


@dataclass(frozen=True)
class PlanRecord(Record):
    """plan.json: how a run trains, what was predicted of that, and what was measured."""

    model_id: str
    precision: str
    quantization: str
    micro_batch: int
    checkpointed_blocks: int
    padding_free: bool = False
    shards: int = 1
    gpu: str | None = None
    gpu_kind: str | None = None
    """The GPU's entry in the catalogue."""
    gpu_memory_gib: float | None = None
    fits: bool | None = None
    reason: str | None = None
    predicted_peak_gib: float | None = None
    predicted_examples_per_s: float | None = None
    predicted_hours: list[float] | None = None
    predicted_usd: list[float] | None = None
    price_usd_per_hour: float | None = None
    speed_factor: float = 1.0
    """How much faster than expected earlier runs were, which the prediction is based on."""
    measured_examples_per_s: float | None = None
    measured_speed_factor: float | None = None
    """Measured speed over what a plan without measurements expects."""
    measured_peak_gib: float | None = None
    measured_allocated_gib: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""
    energy_j: dict[str, float] = field(default_factory=dict)
    """Of the GPU, by stage."""
    peak_gib: dict[str, float] = field(default_factory=dict)
    """The most that torch held of the GPU's memory, by stage."""
    peak_allocated_gib: dict[str, float] = field(default_factory=dict)
    """What of it was tensors."""

    @property
    def training_plan(self) -> TrainingPlan:
        return TrainingPlan(
            self.precision, self.quantization, self.micro_batch, self.checkpointed_blocks, self.padding_free, self.shards
        )


@dataclass(frozen=True)
class StatusRecord(Record):
    """status.json: how far a run is, or how it ended."""

    state: Literal["running", "prepared", "trained", "done", "failed"]
    """Prepared and trained: a command that is a part of a run has ended well."""
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    """When this was written: a sign of life."""
    stage: str | None = None
    step: int | None = None
    total_steps: int | None = None
    percent: float | None = None
    eta_s: float | None = None
    loss: float | None = None
    examples_per_s: float | None = None
    gpu_memory_gib: tuple[float, float] | None = None
    """In use, and what the GPU has."""
    gpu_load_percent: int | None = None
    cost_usd: float | None = None
    """Of the run so far, where this machine's price is known."""
    last_checkpoint: int | None = None
    """Step of the newest sealed checkpoint."""
    computing: str | None = None
    rows: int | None = None
    total_rows: int | None = None
    error: str | None = None
    fix: str | None = None
    exit_code: int | None = None
    retryable: bool | None = None
    adapter: str | None = None
    verdict: str | None = None
    summary: str | None = None
    headline: MetricComparison | None = None
    proof: str | None = None
    sealed: bool | None = None
    """Whether the files of a run that is done are in a manifest; no, in what versions before wrote."""
    hub: str | None = None
    """Address of what was uploaded."""
    hub_error: str | None = None

    @classmethod
    def from_format_1(cls, content: dict[str, Any]) -> dict[str, Any]:
        if "headline" in content:
            content["headline"]["baseline"] = content["headline"].pop("trivial")
        return content


@dataclass(frozen=True)
class ExpectedAnswers:
    """What an evaluation found on its first rows, and how it decoded."""

    outputs: list[str]
    losses: list[float]
    base_losses: list[float]
    max_new_tokens: int
    num_beams: int
    ids: list[list[int]] | None = None
    """The outputs as tokens; None in what earlier versions wrote."""
    kept_special_tokens: tuple[int, ...] = ()

    @property
    def answers(self) -> Answers:
        """The adapter's."""
        return Answers(self.outputs, self.losses, self.ids)

    @property
    def decoding(self) -> Decoding:
        """That of the evaluation, all of these rows at once."""
        return Decoding(len(self.outputs), self.max_new_tokens, self.num_beams, kept=self.kept_special_tokens)


@dataclass(frozen=True)
class ProofRecord(Record):
    """proof.json: what the evaluation found on a few rows, and how far a fresh process was from it."""

    expected: ExpectedAnswers
    found: Difference | None = None
    skipped: str | None = None
    """Why no fresh process answered, where none could."""

    @property
    def is_complete(self) -> bool:
        return self.found is not None or self.skipped is not None

    def __str__(self) -> str:
        """For a person."""
        return f"not done, {self.skipped}" if self.found is None else str(self.found)

    @classmethod
    def from_format_1(cls, content: dict[str, Any]) -> dict[str, Any]:
        if "found" in content and content["found"] is None:
            content["skipped"] = "no room in memory"
        return content


@dataclass(frozen=True)
class VerdictRecord(Record):
    """verdict.json: what `evaluation.csv` says."""

    verdict: Verdict


@dataclass(frozen=True)
class AdapterRecord(Record):
    """adapter/job.json: what it takes to ask the adapter as it was trained."""

    base_model: str
    seq2seq: bool
    chat: bool
    messages_column: str
    input_column: str
    prompt_template: str
    max_new_tokens: int
    num_beams: int
    precision: str
    quantization: str
    steps: int
    adapter_step: int
    total_steps: int
    sealed: bool = False
    """Whether a manifest lies beside it; no, in what versions before wrote."""
    preprocess: str | None = None
    preprocess_sha256: str | None = None
    """Of that function's file."""
    max_source_length: int | None = None
    """Tokens of an input that were allowed in training; None where it is what the model takes."""
    kept_special_tokens: tuple[int, ...] = ()
    """Those that belong to the text of an answer."""
    chat_opening: dict[str, Any] | None = None
    """The `messages` and `tools` that all training chats began with."""

    def precision_on(self, device: str) -> str:
        """How the base is held there to be as it was in training: in fp16 on a GPU alone."""
        return "fp32" if device == "cpu" and self.precision == "fp16" else self.precision
