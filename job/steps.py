"""The steps of a run, in their order; each leaves its result in the run's folder."""

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from job import configs
from job.data import prepare as data
from job.evaluation.evaluate import evaluate as compare
from job.evaluation.evaluate import write_csv
from job.evaluation.verdict import read_means, read_verdict
from job.hardware import Hardware, check_quantization, detect, estimate_training_s
from job.model import add_lora, check_vocabulary, is_seq2seq, length_limits, load_base, load_config, load_tokenizer
from job.publish.adapter import read_job, save_adapter
from job.publish.card import write_card
from job.run_folder import RunFolder
from job.settings import Settings
from job.training import train as training

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


def prepare(settings: Settings, folder: RunFolder) -> Job:
    """Everything that can be known before weights are loaded: the machine, the model's kind, the rows."""
    folder.tell("running", stage="prepare")
    hardware = detect(settings.device)
    log.info("hardware: %s", hardware.describe())
    check_quantization(settings.quantization, hardware)
    base = configs.base_model(settings)
    config = load_config(base)
    seq2seq = is_seq2seq(config, settings.task, base)
    tokenizer = load_tokenizer(base)
    check_vocabulary(base, config, tokenizer)
    reader = configs.reader(tokenizer, seq2seq, length_limits(config, tokenizer))
    prepared = data.prepare(configs.data_request(settings), reader, folder.data)
    log.info(prepared.train_cut.describe("training rows"))
    log.info(prepared.eval_cut.describe("held-out rows"))
    configs.scoring(settings, prepared)
    return Job(settings, folder, hardware, tokenizer, seq2seq, prepared)


def load_base_model(job: Job) -> PreTrainedModel:
    """The base model in the precision that the settings and the machine ask for."""
    dtype, quantization = configs.weights(job.settings, job.hardware)
    return load_base(configs.base_model(job.settings), job.seq2seq, dtype, quantization, job.hardware.device)


def train(job: Job) -> PeftModel:
    """The trained model; its adapter is in its folder."""
    job.folder.tell("running", stage="train")
    set_seed(job.settings.seed)
    base = load_base_model(job)
    model = add_lora(base, configs.lora_config(job.settings, base))
    trainable, total = model.get_nb_trainable_parameters()
    log.info("trainable: %s of %s parameters (%.2f %%)", f"{trainable:,}", f"{total:,}", 100 * trainable / total)
    if job.hardware.device == "cpu":
        _warn_of_cpu(job, total)
    started = time.perf_counter()
    arguments = configs.training_arguments(job.settings, job.folder.checkpoints, job.hardware.device)
    logs_dir = job.folder.logs if "tensorboard" in job.settings.report_to else None
    training.train(model, arguments, (job.prepared.train, job.prepared.evaluation), job.tokenizer, logs_dir)
    log.info("trained in %s", timedelta(seconds=round(time.perf_counter() - started)))
    save_adapter(model, job.tokenizer, job.folder.adapter, configs.job_file(job.settings, job.seq2seq, job.prepared))
    return model


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
