"""The command `doctor`: what a run needs, checked in seconds, a line a check: green, or red with what to do."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import torch

from job.config.inputs import base_model
from job.config.settings import Settings
from job.errors import DiskFull, JobError, OutOfMemory, OutputError
from job.model.load import is_seq2seq, load_config
from job.pipeline.data_look import data_warnings
from job.pipeline.plan import plan_for_machine
from job.pipeline.prepare import model_spec, prepare_data
from job.pipeline.together import TOGETHER, CheckResult, together, try_check
from job.pipeline.workload import measure_workload
from job.plan.dimensions import read_dimensions
from job.plan.memory import weights_bytes
from job.system.console import print_lines
from job.system.folders import ensure_writable
from job.system.hardware import DTYPES, GIB, check_computes, check_quantization, choose_precision, detect
from job.system.ranks import Ranks, this_rank

log = logging.getLogger(__name__)

OUTPUT_BYTES = GIB
"""Adapters, checkpoints and prepared data of most runs."""
LIBRARIES_BYTES, LARGEST_FILE_BYTES = 3 * GIB, 10 * GIB
"""Of the machine's own memory: what torch and CUDA take there, and the largest file that the hub's models are split into."""
ON_EVERY_RANK = ("machine", "arithmetic", "model")
"""The other checks are made by rank 0 alone."""
WHAT_ALL_NEED = ("machine", "arithmetic", "folders")
"""Where one of these fails, a rank could not take part in what they check together, and the others would wait for it."""
SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 64 * 2**20


def doctor(settings: Settings) -> None:
    """Prints every check, those of all ranks together. Raises the JobError of the first that failed."""
    ranks, failed = this_rank(), list[JobError]()
    ranks.join("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu", settings.join_minutes)
    for result in _run_checks(settings, ranks):
        if ranks.is_main:
            print_lines([_line(result)])
        if result.error:
            failed.append(result.error)
    if failed:
        raise failed[0]


def _run_checks(settings: Settings, ranks: Ranks) -> Iterator[CheckResult]:
    checks = {
        "machine": _machine, "arithmetic": _arithmetic, "folders": _folders, "disk": _disk, "shared memory": _shared_memory,
        "model": _model, "memory": _memory, "data": _data,
    }  # fmt: skip
    sound = True
    for name, check in checks.items():
        here = try_check(name, partial(check, settings)) if ranks.is_main or name in ON_EVERY_RANK else None
        result = together(ranks.gather(here))
        sound &= result.error is None or name not in WHAT_ALL_NEED
        yield result
    if ranks.world_size > 1 and sound:
        for name, check_together in TOGETHER.items():
            yield ranks.broadcast(try_check(name, partial(check_together, settings, ranks)))


def _machine(settings: Settings) -> str:
    hardware = detect(settings.device)
    check_quantization(settings.quantization, hardware)
    return hardware.describe()


def _arithmetic(settings: Settings) -> str:
    hardware = detect(settings.device)
    precision = choose_precision(settings.precision, hardware)
    if hardware.device == "cpu":
        return "not tried, there is no GPU"
    check_computes(hardware, DTYPES[precision], settings.quantization == "int8")
    return f"matrix product, attention and NF4 in {precision} agree with float32"


def _folders(settings: Settings) -> str:
    for variable, folder in settings.written_folders.items():
        ensure_writable(folder, variable)
    return ", ".join(map(str, settings.written_folders.values()))


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
    base = base_model(settings)
    config = load_config(base)
    kind = "encoder-decoder" if is_seq2seq(config, settings.task, base) else "causal"
    return f"{settings.model_id}: {kind}, {read_dimensions(config).parameters / 1e6:,.0f} million parameters"


def _memory(settings: Settings) -> str:
    """Raises OutOfMemory if the machine's own memory cannot take what the job holds there: on a GPU one file of the weights."""
    hardware, dimensions = detect(settings.device), read_dimensions(load_config(base_model(settings)))
    weights = weights_bytes(dimensions, choose_precision(settings.precision, hardware, dimensions.width), "none")
    needed = LIBRARIES_BYTES + (weights if hardware.device == "cpu" else min(weights, LARGEST_FILE_BYTES))
    total = psutil.virtual_memory().total
    if total < needed:
        raise OutOfMemory(
            f"MODEL_ID={settings.model_id} needs {needed / GIB:.1f} GiB of the machine's memory, which has {total / GIB:.1f}. "
            "Choose a smaller MODEL_ID, or a machine with more memory."
        )
    return f"{total / GIB:.1f} GiB, at least {needed / GIB:.1f} needed to load the model"


def _data(settings: Settings) -> str:
    """Reads and tokenises all rows, and says how this machine would train on them. Raises OutOfMemory if it cannot."""
    base = base_model(settings)
    config = load_config(base)
    spec = model_spec(settings, base, config)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_data(settings, spec, Path(folder) / "data")
        workload = measure_workload(settings, prepared, spec.seq2seq)
    plan = plan_for_machine(settings, detect(settings.device), config, workload)
    weights = plan.precision if plan.quantization == "none" else f"{plan.quantization} beside {plan.precision}"
    found = f"{prepared.train_truncation.describe('training rows')}; {weights}, micro-batch of {plan.micro_batch} rows"
    told = [*data_warnings(prepared, settings.add_tokens), *filter(None, [prepared.unknown.describe_added()])]
    return " ".join([f"{found}.", *told]) if told else found


def _line(result: CheckResult) -> str:
    mark, colour = ("FAILED", "31") if result.error else ("ok", "32")
    shown = f"\x1b[{colour}m{mark:6}\x1b[0m" if sys.stdout.isatty() else f"{mark:6}"
    return f"{shown}  {result.name:13}  {result.detail}"
