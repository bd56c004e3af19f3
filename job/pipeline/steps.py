"""The steps of a run, in their order; each leaves its result in the run's folder."""

import contextlib
import functools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from job.config import configs
from job.config.settings import DEMO, Settings
from job.data import prepare as data
from job.data.tokens import token_lengths
from job.evaluation.evaluate import Evaluation, Scoring
from job.evaluation.evaluate import evaluate as compare
from job.model.load import (
    check_vocabulary,
    fingerprint,
    is_seq2seq,
    length_limits,
    load_base,
    load_config,
    load_tokenizer,
)
from job.pipeline import forecast
from job.pipeline.run_folder import RunFolder
from job.plan.choose import Work
from job.plan.known import known_config
from job.plan.memory import Way
from job.system.durable import write_json
from job.system.hardware import Hardware, check_computes, check_quantization, choose_precision, detect, gpu_energy_j
from job.training.supervision import REPORT_EVERY_S

log = logging.getLogger(__name__)


@contextlib.contextmanager
def timed(folder: RunFolder, stage: str) -> Iterator[None]:
    """Adds the seconds that this takes, interrupted or not, and the GPU's joules to those of `stage` in `plan.json`; logs them."""
    started, energy_j = time.perf_counter(), gpu_energy_j()
    try:
        yield
    finally:
        taken = time.perf_counter() - started
        used = {"seconds": taken} | ({} if energy_j is None else {"energy_j": gpu_energy_j() - energy_j})
        with contextlib.suppress(OSError):  # a disk that is full has been told of, or will be
            _add_to_plan(folder, stage, used)
    log.info("%s took %s", stage, timedelta(seconds=round(taken)))


def _add_to_plan(folder: RunFolder, stage: str, used: dict[str, float]) -> None:
    plan = json.loads(folder.plan.read_text())
    for unit, amount in used.items():
        plan.setdefault(unit, {})[stage] = round(plan.get(unit, {}).get(stage, 0) + amount, 1)
    write_json(folder.plan, plan)


@dataclass(frozen=True)
class Job:
    """What the steps of one run share."""

    settings: Settings
    folder: RunFolder
    hardware: Hardware
    tokenizer: PreTrainedTokenizerBase
    seq2seq: bool
    prepared: data.Prepared
    way: Way
    rows_at_once: int
    """Rows that are answered at once."""

    @functools.cached_property
    def scoring(self) -> Scoring:
        """How outputs are made and measured."""
        return configs.scoring(self.settings, self.prepared, self.rows_at_once)


def prepare(settings: Settings, folder: RunFolder) -> Job:
    """Everything that can be known before weights are loaded: the machine, the model's kind, the rows, the way to train."""
    folder.tell("running", stage="prepare")
    with timed(folder, "preparation"):
        return _prepare(settings, folder)


def _prepare(settings: Settings, folder: RunFolder) -> Job:
    configs.check_trackers(settings)
    hardware = detect(settings.device)
    log.info("hardware: %s", hardware.describe())
    check_quantization(settings.quantization, hardware)
    check_computes(hardware, configs.DTYPES[choose_precision(settings.precision, hardware)], settings.quantization == "int8")
    config = load_config(configs.base_model(settings))
    seq2seq = is_seq2seq(config, settings.task, configs.base_model(settings))
    tokenizer, prepared = read(settings, config, folder.data, folder.content.get("the training data"))
    folder.hold_to({"the training data": prepared.fingerprint, "the base model": fingerprint(configs.base_model(settings))})
    log.info(prepared.train_cut.describe("training rows"))
    log.info(prepared.eval_cut.describe("held-out rows"))
    decoding = configs.scoring(settings, prepared).decoding
    way = _way(settings, folder, hardware, config, forecast.measured_work(settings, prepared, seq2seq))
    longest = int(token_lengths(prepared.evaluation, "input_ids").max()), decoding.max_new_tokens
    rows = forecast.rows_at_once(settings, hardware, config, (way.precision, way.quantization), longest)
    return Job(settings, folder, hardware, tokenizer, seq2seq, prepared, way, rows)


def plan(settings: Settings, as_json: bool) -> str:
    """What training would take on each kind of GPU, with the data's own lengths if there is data for this model."""
    base = configs.base_model(settings)
    config = known_config(settings.model_id) or load_config(base)
    seq2seq = is_seq2seq(config, settings.task, base)
    if settings.train_data == DEMO and settings.model_id != DEMO:
        log.info("TRAIN_DATA is not set: lengths and rows are PLAN_SOURCE_LENGTHS, PLAN_TARGET_LENGTHS and PLAN_ROWS")
        work = forecast.assumed_work(settings, seq2seq)
    else:
        with tempfile.TemporaryDirectory() as folder:
            work = forecast.measured_work(settings, read(settings, config, Path(folder) / "data")[1], seq2seq)
    return forecast.tell_plan(settings, detect(settings.device), config, work, as_json)


def read(
    settings: Settings, config: PreTrainedConfig, folder: Path, expected: str | None = None
) -> tuple[PreTrainedTokenizerBase, data.Prepared]:
    """The tokenizer, and the rows prepared in `folder`, whose fingerprint must be the `expected` one if there is one."""
    base = configs.base_model(settings)
    tokenizer = load_tokenizer(base)
    check_vocabulary(base, config, tokenizer)
    reader = configs.reader(tokenizer, is_seq2seq(config, settings.task, base), length_limits(config, tokenizer))
    return tokenizer, data.prepare(configs.data_request(settings), reader, folder, expected)


def _way(settings: Settings, folder: RunFolder, hardware: Hardware, config: PreTrainedConfig, work: Work) -> Way:
    """How to train here. From the first step on it stays, so that a run that goes on computes what it computed before."""
    if folder.is_begun and folder.plan.exists():
        kept = json.loads(folder.plan.read_text())
        way = Way(**{field.name: kept[field.name] for field in fields(Way) if field.name in kept})
        wanted = settings.per_device_train_batch_size
        return replace(way, micro_batch=wanted) if wanted and wanted < way.micro_batch else way
    way, plan = forecast.choose_way(settings, hardware, config, work)
    write_json(folder.plan, {"model_id": settings.model_id} | plan)
    return way


def load_base_model(job: Job) -> PreTrainedModel:
    """The base model as the way of this run holds it."""
    dtype, quantization = configs.weights(job.way.precision, job.way.quantization)
    return load_base(configs.base_model(job.settings), job.seq2seq, dtype, quantization, job.hardware.device)


def evaluate(job: Job, model: PeftModel) -> Evaluation:
    """Base and adapter on the held-out rows."""
    job.folder.tell("running", stage="evaluate")
    rows = job.prepared.evaluation
    if len(rows) > job.settings.eval_max_rows:
        log.info("evaluation: %d of %d held-out rows (EVAL_MAX_ROWS)", job.settings.eval_max_rows, len(rows))
        rows = rows.select(range(job.settings.eval_max_rows))
    log.info("evaluation: base and adapter answer %d rows", len(rows))
    scoring = replace(job.scoring, decoding=replace(job.scoring.decoding, report=sign_of_life(job.folder, "evaluate")))
    with timed(job.folder, "evaluation"):
        return compare(model, job.tokenizer, (job.prepared.train, rows), scoring)


def sign_of_life(folder: RunFolder, stage: str) -> Callable[[str, int, int], None]:
    """Tells `status.json`, every few seconds, how many rows are done."""
    told = float("-inf")

    def report(what: str, done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= REPORT_EVERY_S:
            told = time.monotonic()
            folder.beat(stage, computing=what, rows=done, total_rows=total)

    return report
