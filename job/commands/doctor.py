"""What a run needs, checked in seconds, a line a check: green, or red with what to do."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from job.config import configs
from job.config.settings import Settings
from job.errors import DiskFull, JobError, OutOfMemory, OutputError
from job.model.load import is_seq2seq, load_config
from job.pipeline import forecast, steps
from job.pipeline.run_folder import make_writable
from job.plan.memory import weights_bytes
from job.plan.shape import read_shape
from job.system.hardware import GIB, check_computes, check_quantization, choose_precision, detect

log = logging.getLogger(__name__)

OUTPUT_BYTES = GIB
"""Adapters, checkpoints and prepared data of most runs."""
LIBRARIES_BYTES, LARGEST_FILE_BYTES = 3 * GIB, 10 * GIB
"""Of the machine's own memory: what torch and CUDA take there, and the largest file that the hub's models are split into."""
SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    detail: str
    error: JobError | None = None


def examine(settings: Settings) -> None:
    """Prints every check. Raises the JobError of the first that failed."""
    findings = []
    for finding in _findings(settings):
        findings.append(finding)
        print(_line(finding), flush=True)
    failed = [finding.error for finding in findings if finding.error]
    if failed:
        raise failed[0]


def _findings(settings: Settings) -> Iterator[Finding]:
    checks: dict[str, Callable[[Settings], str]] = {
        "machine": _machine, "arithmetic": _arithmetic, "folders": _folders, "disk": _disk, "shared memory": _shared_memory,
        "model": _model, "memory": _memory, "data": _data,
    }  # fmt: skip
    for name, check in checks.items():
        try:
            yield Finding(name, check(settings))
        except JobError as error:
            yield Finding(name, str(error), error)


def _machine(settings: Settings) -> str:
    hardware = detect(settings.device)
    check_quantization(settings.quantization, hardware)
    return hardware.describe()


def _arithmetic(settings: Settings) -> str:
    hardware = detect(settings.device)
    precision = choose_precision(settings.precision, hardware)
    if hardware.device == "cpu":
        return "not tried, there is no GPU"
    check_computes(hardware, configs.DTYPES[precision], settings.quantization == "int8")
    return f"matrix product, attention and NF4 in {precision} agree with float32"


def _folders(settings: Settings) -> str:
    folders = {"OUTPUT_DIR": settings.output_dir, "LOGS_DIR": settings.logs_dir, "HF_HOME": settings.hf_home}
    for variable, folder in folders.items():
        if folder:
            make_writable(folder, variable)
    return ", ".join(str(folder) for folder in folders.values() if folder)


def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(next(path for path in (settings.output_dir, Path.cwd()) if path.exists())).free
    if free < OUTPUT_BYTES:
        raise DiskFull(
            f"OUTPUT_DIR={settings.output_dir}: {free / GIB:.1f} GiB free, a run may write {OUTPUT_BYTES / GIB:.0f}. Free some."
        )
    return f"{free / GIB:.0f} GiB free for output"


def _shared_memory(_settings: Settings) -> str:
    if not SHARED_MEMORY.exists():
        return "none here"
    total = shutil.disk_usage(SHARED_MEMORY).total
    if total < SHARED_BYTES:
        raise OutputError(f"{SHARED_MEMORY}: {total / 2**20:.0f} MiB. Start the container with --shm-size 1g.")
    return f"{total / GIB:.1f} GiB"


def _model(settings: Settings) -> str:
    config = load_config(configs.base_model(settings))
    shape = read_shape(config)
    kind = "encoder-decoder" if is_seq2seq(config, settings.task, configs.base_model(settings)) else "causal"
    return f"{settings.model_id}: {kind}, {shape.parameters / 1e6:,.0f} million parameters"


def _memory(settings: Settings) -> str:
    """Raises OutOfMemory if the machine's own memory cannot take what the job holds there: on a GPU one file of the weights."""
    hardware, shape = detect(settings.device), read_shape(load_config(configs.base_model(settings)))
    weights = weights_bytes(shape, choose_precision(settings.precision, hardware, shape.width), "none")
    needed = LIBRARIES_BYTES + (weights if hardware.device == "cpu" else min(weights, LARGEST_FILE_BYTES))
    there = psutil.virtual_memory().total
    if there < needed:
        raise OutOfMemory(
            f"MODEL_ID={settings.model_id} needs {needed / GIB:.1f} GiB of the machine's memory, {there / GIB:.1f} are there."
        )
    return f"{there / GIB:.1f} GiB, at least {needed / GIB:.1f} needed to load the model"


def _data(settings: Settings) -> str:
    """Reads and tokenises all rows, and says how this machine would train on them. Raises OutOfMemory if it cannot."""
    config = load_config(configs.base_model(settings))
    seq2seq = is_seq2seq(config, settings.task, configs.base_model(settings))
    with tempfile.TemporaryDirectory() as folder:
        _, prepared = steps.read(settings, config, Path(folder) / "data")
        work = forecast.measured_work(settings, prepared, seq2seq)
    way, _ = forecast.choose_way(settings, detect(settings.device), config, work)
    weights = way.precision if way.quantization == "none" else f"{way.quantization} beside {way.precision}"
    return f"{prepared.train_cut.describe('training rows')}; {weights}, {way.micro_batch} rows at once"


def _line(finding: Finding) -> str:
    mark, colour = ("FAILED", "31") if finding.error else ("ok", "32")
    shown = f"\x1b[{colour}m{mark:6}\x1b[0m" if sys.stdout.isatty() else f"{mark:6}"
    return f"{shown}  {finding.name:13}  {finding.detail}"
