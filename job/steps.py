"""The steps of a run, in their order; each leaves its result in the run's folder."""

import json
import logging
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from job import configs, forecast
from job.data import prepare as data
from job.evaluation.evaluate import evaluate as compare
from job.evaluation.evaluate import write_csv
from job.evaluation.generate import generate, prompt_of
from job.evaluation.verdict import read_means, read_verdict
from job.hardware import GIB, Hardware, check_computes, check_quantization, choose_precision, detect, estimate_training_s
from job.model import (
    add_lora,
    check_vocabulary,
    is_seq2seq,
    length_limits,
    load_base,
    load_config,
    load_tokenizer,
)
from job.plan.choose import Work
from job.plan.known import known_config
from job.plan.measured import FACTOR
from job.plan.memory import Way
from job.publish.adapter import read_job, save_adapter
from job.publish.card import write_card
from job.recompute import checkpoint_blocks
from job.run_folder import RunFolder, write_json
from job.settings import DEMO, Settings
from job.training import train as training
from job.training.probe import check_precision
from job.training.rehearse import free_memory, largest_micro_batch, longest_batch, smaller

log = logging.getLogger(__name__)


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


def prepare(settings: Settings, folder: RunFolder) -> Job:
    """Everything that can be known before weights are loaded: the machine, the model's kind, the rows, the way to train."""
    folder.tell("running", stage="prepare")
    hardware = detect(settings.device)
    log.info("hardware: %s", hardware.describe())
    check_quantization(settings.quantization, hardware)
    check_computes(hardware, configs.DTYPES[choose_precision(settings.precision, hardware)], settings.quantization == "int8")
    config = load_config(configs.base_model(settings))
    seq2seq = is_seq2seq(config, settings.task, configs.base_model(settings))
    tokenizer, prepared = read(settings, config, folder.data)
    log.info(prepared.train_cut.describe("training rows"))
    log.info(prepared.eval_cut.describe("held-out rows"))
    configs.scoring(settings, prepared)
    way = _way(settings, folder, hardware, config, forecast.measured_work(settings, prepared, seq2seq))
    return Job(settings, folder, hardware, tokenizer, seq2seq, prepared, way)


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


def read(settings: Settings, config: PreTrainedConfig, folder: Path) -> tuple[PreTrainedTokenizerBase, data.Prepared]:
    """The tokenizer, and the rows prepared in `folder`."""
    base = configs.base_model(settings)
    tokenizer = load_tokenizer(base)
    check_vocabulary(base, config, tokenizer)
    reader = configs.reader(tokenizer, is_seq2seq(config, settings.task, base), length_limits(config, tokenizer))
    return tokenizer, data.prepare(configs.data_request(settings), reader, folder)


def _way(settings: Settings, folder: RunFolder, hardware: Hardware, config: PreTrainedConfig, work: Work) -> Way:
    """How to train here. From the first step on it stays, so that a run that goes on computes what it computed before."""
    if folder.is_begun and folder.plan.exists():
        kept = json.loads(folder.plan.read_text())
        return Way(**{field.name: kept[field.name] for field in fields(Way)})
    way, plan = forecast.choose_way(settings, hardware, config, work)
    write_json(folder.plan, {"model_id": settings.model_id} | (plan or asdict(way)))
    return way


def load_base_model(job: Job) -> PreTrainedModel:
    """The base model as the way of this run holds it."""
    dtype, quantization = configs.weights(job.way.precision, job.way.quantization)
    return load_base(configs.base_model(job.settings), job.seq2seq, dtype, quantization, job.hardware.device)


def train(job: Job) -> PeftModel:
    """The trained model; its adapter is in its folder.

    Out of memory, before or in the middle, means a smaller micro-batch from the last checkpoint on: the effective batch and the
    order of the rows stay, and so does the result.
    """
    job.folder.tell("running", stage="train")
    model, micro_batch = _new_model(job), job.way.micro_batch
    trainable, total = model.get_nb_trainable_parameters()
    log.info("trainable: %s of %s parameters (%.2f %%)", f"{trainable:,}", f"{total:,}", 100 * trainable / total)
    if job.hardware.device == "cpu":
        _warn_of_cpu(job, total)
    started, effective = time.perf_counter(), job.settings.effective_batch_size
    if job.way.precision != "fp32":
        check_precision(model, longest_batch(model, job.prepared.train, job.tokenizer, 1))
    micro_batch = largest_micro_batch(model, job.prepared.train, job.tokenizer, micro_batch, effective)
    if job.hardware.device == "cuda":
        rehearse_answers(job, model)
    while True:
        try:
            metrics = _train_once(job, model, micro_batch)
            break
        except torch.OutOfMemoryError:
            micro_batch = smaller(micro_batch, effective)
        del model
        free_memory()
        model = _new_model(job)
    took_s = time.perf_counter() - started
    log.info("trained in %s", timedelta(seconds=round(took_s)))
    _keep_what_was_measured(job, micro_batch, metrics)
    save_adapter(model, job.tokenizer, job.folder.adapter, configs.job_file(job.settings, job.seq2seq, job.prepared, job.way))
    return model


def rehearse_answers(job: Job, model: PeftModel) -> None:
    """Answers the longest inputs once, so that an evaluation that cannot fit is known before training. Raises OutOfMemory."""
    decoding = configs.scoring(job.settings, job.prepared).decoding
    prompts = [prompt_of(row, job.seq2seq) for row in job.prepared.evaluation]
    with torch.random.fork_rng([model.device]):
        generate(model, job.tokenizer, [max(prompts, key=len)] * decoding.batch_size, decoding)
    free_memory()


def _new_model(job: Job) -> PeftModel:
    set_seed(job.settings.seed)
    base = load_base_model(job)
    model = add_lora(base, configs.lora_config(job.settings, base))
    checkpoint_blocks(model, job.way.checkpointed_blocks)
    return model


def _train_once(job: Job, model: PeftModel, micro_batch: int) -> dict[str, float]:
    _update_plan(job, micro_batch=micro_batch)
    arguments = configs.training_arguments(job.settings, job.folder.checkpoints, job.hardware.device, micro_batch)
    logs_dir = job.folder.logs if "tensorboard" in job.settings.report_to else None
    return training.train(model, arguments, (job.prepared.train, job.prepared.evaluation), job.tokenizer, logs_dir)


def _keep_what_was_measured(job: Job, micro_batch: int, metrics: dict[str, float]) -> None:
    plan, speed = json.loads(job.folder.plan.read_text()), metrics["examples_per_second"]
    expected = plan.get("predicted_examples_per_s", 0) / plan.get("speed_factor", 1)
    _update_plan(job, measured_examples_per_s=round(speed, 3), **({FACTOR: round(speed / expected, 4)} if expected else {}))
    if job.hardware.device == "cuda":
        reserved, allocated = torch.cuda.max_memory_reserved() / GIB, torch.cuda.max_memory_allocated() / GIB
        log.info("peak memory: %.2f GiB with %d rows at once", reserved, micro_batch)
        _update_plan(job, measured_peak_gib=round(reserved, 2), measured_allocated_gib=round(allocated, 2))


def _update_plan(job: Job, **facts: object) -> None:
    write_json(job.folder.plan, json.loads(job.folder.plan.read_text()) | facts)


def evaluate(job: Job, model: PeftModel) -> None:
    """Writes evaluation.csv: base and adapter on the held-out rows."""
    job.folder.tell("running", stage="evaluate")
    rows = job.prepared.evaluation
    if len(rows) > job.settings.eval_max_rows:
        log.info("evaluation: %d of %d held-out rows (EVAL_MAX_ROWS)", job.settings.eval_max_rows, len(rows))
        rows = rows.select(range(job.settings.eval_max_rows))
    log.info("evaluation: base and adapter answer %d rows", len(rows))
    started = time.perf_counter()
    write_csv(compare(model, job.tokenizer, rows, configs.scoring(job.settings, job.prepared)), job.folder.evaluation)
    log.info("evaluated in %s", timedelta(seconds=round(time.perf_counter() - started)))


def publish(job: Job) -> None:
    """Writes the model card and calls the run done."""
    _, means = read_means(job.folder.evaluation)
    made = read_job(job.folder.adapter)
    facts = {
        "title": job.folder.path.name,
        "base": made["base_model"],
        "data": Path(configs.train_source(job.settings).location).name,
        "train_rows": len(job.prepared.train),
        "verdict": read_verdict(job.folder.evaluation),
        "seq2seq": job.seq2seq,
        "template": made["prompt_template"],
        "max_new_tokens": made["max_new_tokens"],
    }
    changed = job.settings.model_dump(mode="json", exclude_defaults=True, exclude={"hf_token", "hf_token_file"})
    write_card(job.folder.adapter / "README.md", facts, means, {name.upper(): str(value) for name, value in changed.items()})
    job.folder.tell("done", verdict=facts["verdict"], adapter=str(job.folder.adapter))


def _warn_of_cpu(job: Job, parameters: int) -> None:
    passes = job.settings.num_train_epochs
    if job.settings.max_steps:
        passes = job.settings.max_steps * job.settings.effective_batch_size / len(job.prepared.train)
    estimate_s = estimate_training_s(parameters, round(sum(job.prepared.train["length"]) * passes))
    log.warning(
        "NO GPU: training on the CPU, which may take about %s. DEVICE=cuda makes a missing GPU an error.",
        timedelta(seconds=round(estimate_s)),
    )
