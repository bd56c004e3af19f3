"""What the runs of one process have in common, where they differ in how they train alone: a sweep's."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedConfig

from job.data.data_config import ModelSpec
from job.data.prepared import PreparedData, load_prepared
from job.model.load import BaseModel
from job.model.shared_weights import LoadedOnce
from job.system.durable import replace_folder_durably
from job.system.hardware import Hardware


@dataclass(frozen=True)
class Preparation:
    """What is known of machine, model and rows before it is known how they are trained on."""

    hardware: Hardware
    base: BaseModel
    config: PreTrainedConfig
    spec: ModelSpec
    prepared: PreparedData
    folder: Path
    """Of the prepared data."""
    content: dict[str, str]
    """Fingerprints of what a run is made from."""


@dataclass(frozen=True)
class Shared:
    """A preparation, a base model that is loaded once, and who decides whether a run is worth going on."""

    preparation: Preparation
    base: LoadedOnce = field(default_factory=LoadedOnce)
    gives_up: Callable[[Sequence[dict[str, float]]], bool] = lambda _: False
    """Of the evaluations so far; see `Supervision`."""


def link_data(preparation: Preparation, folder: Path) -> None:
    """Makes `folder` hold the prepared data too, as hard links where the disk has them."""
    found = load_prepared(folder)
    if found and found.fingerprint == preparation.prepared.fingerprint:
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(preparation.folder, partial, copy_function=_link)
    replace_folder_durably(partial, folder)


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
