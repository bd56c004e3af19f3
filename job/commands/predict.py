"""Answers to new rows, made with a trained adapter. A long file that was cut off goes on where it was."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from job.config import configs
from job.config.settings import Settings
from job.data.answers import AnswerFile
from job.data.read import Source, Table, read_table
from job.data.rows import to_chats, to_prompts
from job.data.tokenise import cut_source, encode_chats, encode_prompts
from job.data.write import check_place, write_table
from job.errors import InputMissing, OutputError
from job.evaluation.generate import Decoding, Ids, confidences, decode, generate_ids
from job.model.load import length_limits, load_adapter, load_base, load_config, load_tokenizer
from job.pipeline import forecast
from job.publish.adapter import WEIGHTS, read_job
from job.system.hardware import Hardware, check_quantization, choose_precision, detect
from job.training.supervision import REPORT_EVERY_S

log = logging.getLogger(__name__)

OUTPUT_COLUMN, CONFIDENCE_COLUMN = "output", "confidence"
ROWS_AT_ONCE = 256
"""Rows that are answered between two writes to the disk: what a sudden end may cost."""


def answer_file(settings: Settings, location: str, output: str | None = None) -> None:
    """Answers the rows of the file at `location`, with the template and lengths of the training.

    Writes the same table with further columns, to `output` or OUTPUT_DIR/RUN_NAME/predictions/. The adapter is the run's.
    """
    adapter = find_adapter(settings)
    job = read_job(adapter)
    path = Path(output) if output else adapter.with_name("predictions") / Path(location).name
    if path.resolve() == Path(location).resolve():
        raise OutputError(f"{path}: the answers would take the place of the questions. Name another file.")
    check_place(path)
    base = replace(configs.base_model(settings), model_id=configs.located(job["base_model"]))
    tokenizer = load_tokenizer(base, adapter)
    table = read_table(Source("FILE", location, settings.sheet))
    config, hardware = load_config(base), detect(settings.device)
    prompts = _cut(_prompts(settings, job, table, tokenizer), _limit(job, config, tokenizer), tokenizer)
    form = _form(settings, job, hardware)
    longest = max(map(len, prompts)), job["max_new_tokens"]
    rows_at_once = forecast.rows_at_once(settings, hardware, config, form, longest)
    decoding = Decoding(rows_at_once, job["max_new_tokens"], job["num_beams"])
    weights = hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()
    made_of = (prompts, weights, base.model_id, base.revision, form, longest[1], job["num_beams"], settings.predict_confidence)
    with AnswerFile(path, hashlib.sha256(json.dumps(made_of).encode()).hexdigest()) as answers:
        left = [row for row in range(len(prompts)) if row not in answers.known]
        if left:
            model = load_adapter(load_base(base, job["seq2seq"], *configs.weights(*form), hardware.device), adapter)
            for rows in _by_length(left, prompts):
                asked = [prompts[row] for row in rows]
                answers.add(rows, _answer(model, tokenizer, asked, decoding, settings.predict_confidence))
        given = table.rows.to_dict()
        made = {_free_name(name, given): cells for name, cells in answers.columns().items()}
        write_table(given | made, path, _free_name(OUTPUT_COLUMN, given))
    answers.path.unlink()
    log.info("answered %d rows: %s", len(prompts), path)


def _free_name(name: str, columns: dict[str, list]) -> str:
    """`name`, with a number where a person's own column is called so."""
    number, free = 1, name
    while free in columns:
        number += 1
        free = f"{name}_{number}"
    return free


def find_adapter(settings: Settings) -> Path:
    """The folder of the run's adapter. Raises InputMissing."""
    folder = settings.output_dir / configs.run_name(settings)
    if not (folder / "adapter").exists():
        raise InputMissing(f"{folder}: no adapter there. Set RUN_NAME to a finished run in OUTPUT_DIR={settings.output_dir}.")
    return folder / "adapter"


def _prompts(settings: Settings, job: dict, table: Table, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """Token ids of the rows as the adapter learnt to read them."""
    columns = replace(
        configs.columns(settings),
        input=settings.input_column if "input_column" in settings.model_fields_set else job["input_column"],
        messages=job["messages_column"],
        template=job["prompt_template"],
        preprocess=job["preprocess"],
    )
    if job["chat"]:
        return encode_chats(to_chats(table, columns), tokenizer)
    return encode_prompts(to_prompts(table, columns), tokenizer, job["seq2seq"])


def _limit(job: dict, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens of an input that are read: as many as were allowed in training, else as the model was made for."""
    usual, _ = length_limits(config, tokenizer)
    if job["max_source_length"] or usual is None or job["seq2seq"]:
        return job["max_source_length"] or usual
    return max(1, usual - job["max_new_tokens"])


def _cut(prompts: list[Ids], limit: int | None, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """`prompts`, none longer than `limit`; a warning tells how many were."""
    longer = sum(limit is not None and len(prompt) > limit for prompt in prompts)
    if not longer:
        return prompts
    log.warning("%d of %d inputs are longer than %d tokens and are cut, as in training", longer, len(prompts), limit)
    return [cut_source(prompt, limit, tokenizer.eos_token_id) for prompt in prompts]


def _form(settings: Settings, job: dict, hardware: Hardware) -> tuple[str, str]:
    """(precision, quantisation) of the base's weights: on a CPU as it was trained, on a GPU its best, if nothing else is asked for.

    Raises SettingsError for what this machine cannot compute with.
    """
    precision, quantization = settings.precision, settings.quantization
    if quantization == "auto":
        quantization = job.get("quantization", "none")
    check_quantization(quantization, hardware)
    if precision == "auto" and hardware.device == "cpu":
        return "fp32" if job["precision"] == "fp16" else job["precision"], quantization
    return choose_precision(precision, hardware), quantization


def _by_length(rows: list[int], prompts: list[Ids]) -> Iterator[list[int]]:
    """Parts of `rows`, the longest prompts first; tells now and then how far it is."""
    rows = sorted(rows, key=lambda row: len(prompts[row]), reverse=True)
    started = told = time.monotonic()
    for first in range(0, len(rows), ROWS_AT_ONCE):
        if first and time.monotonic() - told >= REPORT_EVERY_S:
            told = time.monotonic()
            per_s = first / (told - started)
            left = timedelta(seconds=round((len(rows) - first) / per_s))
            log.info("answered %d of %d rows, %.1f rows/s, at most %s left", first, len(rows), per_s, left)
        yield rows[first : first + ROWS_AT_ONCE]


def _answer(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Ids], decoding: Decoding, confidence: bool
) -> dict[str, list]:
    """Further columns of the table for these prompts."""
    answers = generate_ids(model, tokenizer, prompts, decoding)
    columns = {OUTPUT_COLUMN: decode(answers, tokenizer)}
    return columns | ({CONFIDENCE_COLUMN: confidences(model, tokenizer, prompts, answers, decoding)} if confidence else {})
