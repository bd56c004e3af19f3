"""The step after the evaluation: a fresh process, with peft and transformers alone, loads the adapter and answers again."""

import csv
import json
import logging
from pathlib import Path

from datasets import Dataset

from job import configs
from job.durable import write_json
from job.errors import OutputError
from job.evaluation.generate import Decoding, prompt_of
from job.model import BaseModel
from job.publish.prove import QUANTISED_TOLERANCE, TOLERANCE, Answers, answer_in_fresh_process, compare
from job.run_folder import RunFolder
from job.steps import Job, timed
from job.training.rehearse import free_memory

log = logging.getLogger(__name__)

ROWS = 8
"""Held-out rows that are answered once more."""


def prove(job: Job) -> None:
    """Writes how far the fresh process is from evaluation.csv to proof.json. Raises OutputError if that is more than rounding."""
    if job.folder.proof.exists():
        return
    job.folder.tell("running", stage="prove")
    free_memory()
    expected = recorded(job.folder.evaluation)
    rows = sample(job.prepared.evaluation.select(range(len(expected.outputs))), job.seq2seq)
    decoding = job.scoring.decoding
    quantised = job.way.quantization != "none"
    task = task_of(configs.base_model(job.settings), job.seq2seq, job.hardware.device, job.way.precision, rows, decoding)
    task |= {"adapter": str(job.folder.adapter), "tokenizer": str(job.folder.adapter)}
    if quantised and job.hardware.device == "cuda":
        task["quantization"] = _usual_quantisation(job.way.quantization, task["dtype"])
    with timed(job.folder, "proof"):
        found = answer_in_fresh_process(task)
    if found is None:
        log.warning("the adapter was not loaded again in a fresh process: the memory has no room for that")
        return write_json(job.folder.proof, {"rows": 0})
    divergence = compare(found, expected, QUANTISED_TOLERANCE if quantised else TOLERANCE[job.way.precision])
    if divergence.is_too_large:
        raise OutputError(
            f"{job.folder.adapter}: loaded by a fresh process it does not answer as evaluation.csv says ({divergence}; "
            f"{divergence.tolerance} is the most). Check the disk and run the job again with OVERWRITE=true."
        )
    log.info("loaded again by a fresh process, peft and transformers alone: %s", divergence)
    write_json(job.folder.proof, divergence.as_dict())


def proof_told(folder: RunFolder) -> str | None:
    """One line for a person on what proof.json says, if there is one."""
    found = json.loads(folder.proof.read_text()) if folder.proof.exists() else {"rows": 0}
    if not found["rows"]:
        return None
    text = f"{found['same_outputs']} of {found['rows']} answers the same"
    largest = found["largest_loss_difference"]
    return text if largest is None else f"{text}, losses within {largest:.1e}"


def recorded(evaluation: Path) -> Answers:
    """What evaluation.csv has of the adapter on its first rows."""
    with evaluation.open(newline="", encoding="utf-8") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(ROWS), strict=False)]
    losses = [float(row["adapter_loss"]) for row in rows] if "adapter_loss" in rows[0] else None
    return Answers([row["adapter_output"] for row in rows], losses)


def sample(rows: Dataset, seq2seq: bool) -> list[dict]:
    """What `reload.answer` takes for prepared rows."""
    return [{"prompt": prompt_of(row, seq2seq), "input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]


def task_of(base: BaseModel, seq2seq: bool, device: str, precision: str, rows: list[dict], decoding: Decoding) -> dict:
    """A task of `reload.answer` for the untouched base model."""
    return {
        "model": base.model_id, "arguments": base.arguments(), "seq2seq": seq2seq, "device": device, "quantization": None,
        "dtype": str(configs.DTYPES[precision]).removeprefix("torch."), "rows": rows, "adapter": None, "tokenizer": base.model_id,
        "max_new_tokens": decoding.max_new_tokens, "num_beams": decoding.num_beams,
    }  # fmt: skip


def _usual_quantisation(quantization: str, dtype: str) -> dict[str, object]:
    """As people load such a base elsewhere, without this job's care for T5's `wo`."""
    if quantization == "int8":
        return {"load_in_8bit": True}
    nested = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    return {"load_in_4bit": True} | nested
