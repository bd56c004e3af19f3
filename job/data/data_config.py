"""Which rows to prepare, and how; what of the model matters to them; and the fingerprint of all that."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerBase

from job.data.column_mapping import ColumnMapping
from job.data.lengths import LengthLimits
from job.data.token_lengths import ROWS_AT_ONCE
from job.tables.table import Source, Table

NOT_IN_FINGERPRINT = ("train", "evaluation", "num_proc", "max_unknown_targets", "add_tokens", "own_held_out")


@dataclass(frozen=True)
class DataConfig:
    """Which rows to prepare, and how; see the variables of the same names in `settings`."""

    train: Source
    evaluation: Source | None
    columns: ColumnMapping
    eval_fraction: float
    seed: int
    max_lengths: tuple[str, str]
    """MAX_SOURCE_LENGTH and MAX_TARGET_LENGTH."""
    too_long: str
    max_truncated_targets: float
    num_proc: int
    max_unknown_targets: float = 0.01
    add_tokens: str = "none"
    own_held_out: bool = True
    """Whether rows that `train` itself holds apart are the held-out ones, where there is no `evaluation`."""

    @property
    def preprocess_file(self) -> Path | None:
        """The file of PREPROCESS, which is file.py:function; None where there is none."""
        return Path(self.columns.preprocess.rpartition(":")[0]) if self.columns.preprocess else None


@dataclass(frozen=True)
class ModelSpec:
    """What of the model matters to its data."""

    tokenizer: PreTrainedTokenizerBase
    seq2seq: bool
    limits: LengthLimits
    answering: GenerationConfig = field(default_factory=GenerationConfig)
    """How answers begin and end."""
    embeddings: int | None = None
    """How many tokens the model has embeddings for; None where its config does not say."""


def fingerprint_of(config: DataConfig, model: ModelSpec, contents: list[str]) -> str:
    """sha256 of everything that prepared rows depend on. contents: of their tables, by `contents_of`."""
    digest = hashlib.sha256()
    asked = {name: value for name, value in asdict(config).items() if name not in NOT_IN_FINGERPRINT}
    if config.add_tokens != "none":  # as everywhere before there was such a setting
        digest.update(config.add_tokens.encode())
    asked["columns"] = config.columns.identity()
    limits = asdict(model.limits)
    if limits["hard_target"] in (None, limits["hard"]):  # says nothing new, and versions before did not have it
        del limits["hard_target"]
    digest.update(json.dumps([asked, limits, model.seq2seq], sort_keys=True).encode())
    digest.update(json.dumps(model.tokenizer.get_vocab(), sort_keys=True).encode())
    digest.update(str(model.tokenizer.chat_template).encode())
    languages = [getattr(model.tokenizer, name, None) for name in ("src_lang", "tgt_lang")]
    if any(languages):
        digest.update(json.dumps(languages).encode())
    if config.preprocess_file:
        digest.update(config.preprocess_file.read_bytes())
    for content in contents:
        digest.update(bytes.fromhex(content))
    return digest.hexdigest()


def contents_of(tables: Iterable[Table | None]) -> list[str]:
    """sha256 of the cells of each table that is there, whatever file they came from."""
    return [_content(table.rows) for table in tables if table is not None]


def _content(rows: Dataset) -> str:
    digest = hashlib.sha256(json.dumps(rows.column_names).encode())
    for batch in rows.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        digest.update(json.dumps(batch.to_pydict(), default=str).encode())
    return digest.hexdigest()
