"""Answers to new rows, made with a trained adapter."""

import logging
from dataclasses import replace
from pathlib import Path

from job import configs
from job.data.read import Source, read_table
from job.data.rows import to_prompts
from job.data.tokenise import cut_source, encode_prompts
from job.data.write import write_table
from job.errors import InputMissing
from job.evaluation.generate import Decoding, generate
from job.hardware import choose_precision, detect
from job.model import load_adapter, load_base, load_config, load_tokenizer
from job.plan.shape import read_shape
from job.publish.adapter import read_job
from job.settings import Settings

log = logging.getLogger(__name__)

OUTPUT_COLUMN = "output"


def predict(settings: Settings, location: str, output: str | None = None) -> None:
    """Answers the rows of the file at `location`, with the template and lengths of the training.

    Writes the same table with a further column, to `output` or OUTPUT_DIR/RUN_NAME/predictions/. The adapter is the run's.
    """
    run_folder = settings.output_dir / configs.run_name(settings)
    if not (run_folder / "adapter").exists():
        raise InputMissing(f"{run_folder}: no adapter there. Set RUN_NAME to a finished run in OUTPUT_DIR={settings.output_dir}.")
    job = read_job(run_folder / "adapter")
    base = replace(configs.base_model(settings), model_id=configs.located(job["base_model"]))
    tokenizer = load_tokenizer(base, run_folder / "adapter")
    table = read_table(Source("FILE", location, settings.sheet))
    columns = replace(
        configs.columns(settings), input=job["input_column"], template=job["prompt_template"], preprocess=job["preprocess"]
    )
    prompts = [
        cut_source(ids, job["max_source_length"], tokenizer.eos_token_id)
        for ids in encode_prompts(to_prompts(table, columns), tokenizer, job["seq2seq"])
    ]
    hardware = detect(settings.device)
    precision = choose_precision(settings.precision, hardware, read_shape(load_config(base)).width)
    dtype, quantization = configs.weights(precision, _quantization(settings, job))
    model = load_adapter(load_base(base, job["seq2seq"], dtype, quantization, hardware.device), run_folder / "adapter")
    decoding = Decoding(settings.per_device_eval_batch_size, job["max_new_tokens"], job["num_beams"])
    path = Path(output) if output else run_folder / "predictions" / Path(location).name
    write_table(table.rows.to_dict() | {OUTPUT_COLUMN: generate(model, tokenizer, prompts, decoding)}, path)
    log.info("answered %d rows: %s", len(prompts), path)


def _quantization(settings: Settings, job: dict) -> str:
    """As it was trained, if nothing else is asked for."""
    return job.get("quantization", "none") if settings.quantization == "auto" else settings.quantization
