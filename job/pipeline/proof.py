"""What the evaluation says of a few rows, and the step after it: a fresh process, without this job, answers them again."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from datasets import Dataset
from peft import PeftModel

from job.config import configs
from job.errors import OutputError
from job.evaluation.evaluate import base_only
from job.evaluation.generate import Decoding, measure_losses, prompt_of
from job.model.load import BaseModel
from job.pipeline.run_folder import RunFolder
from job.pipeline.steps import Job, timed
from job.publish.prove import QUANTISED_TOLERANCE, TOLERANCE, Answers, Divergence, answer_in_fresh_process, diverge
from job.system.durable import write_json
from job.training.rehearse import free_memory

log = logging.getLogger(__name__)

ROWS = 8
"""Held-out rows that are answered once more."""
EXPECTED, FOUND, NO_ROOM = "expected", "found", "no room in memory"


@dataclass(frozen=True)
class Expected:
    """What an evaluation found on its first rows, and how it decoded."""

    outputs: Sequence[str]
    losses: Sequence[float]
    base_losses: Sequence[float]
    max_new_tokens: int
    num_beams: int

    @property
    def answers(self) -> Answers:
        """The adapter's."""
        return Answers(self.outputs, self.losses)

    @property
    def decoding(self) -> Decoding:
        """That of the evaluation, a few rows at once."""
        return Decoding(ROWS, self.max_new_tokens, self.num_beams)


def expect(job: Job, model: PeftModel, outputs: Sequence[str]) -> None:
    """Begins proof.json with what `model` makes of the first held-out rows. outputs: its answers to them."""
    rows = list(job.prepared.evaluation.select(range(min(ROWS, len(outputs)))))
    decoding = job.scoring.decoding
    losses = measure_losses(model, job.tokenizer, rows, decoding)
    with base_only(model):
        base_losses = measure_losses(model, job.tokenizer, rows, decoding)
    expected = Expected(outputs[: len(rows)], losses, base_losses, decoding.max_new_tokens, decoding.num_beams)
    write_json(job.folder.proof, {EXPECTED: asdict(expected)})


def read_expected(folder: RunFolder) -> Expected:
    """What `expect` kept."""
    return Expected(**json.loads(folder.proof.read_text())[EXPECTED])


def prove(job: Job) -> None:
    """Adds to proof.json how far the fresh process is from the evaluation. Raises OutputError where that is more than rounding."""
    proof = json.loads(job.folder.proof.read_text())
    if FOUND in proof:
        return
    job.folder.tell("running", stage="prove")
    free_memory()
    expected = read_expected(job.folder)
    quantised = job.way.quantization != "none"
    rows = sample(job.prepared.evaluation.select(range(len(expected.outputs))), job.seq2seq)
    base = configs.base_model(job.settings)
    task = task_of(base, job.seq2seq, job.hardware.device, job.way.precision, rows, expected.decoding)
    task |= {"adapter": str(job.folder.adapter), "tokenizer": str(job.folder.adapter)}
    if quantised and job.hardware.device == "cuda":
        task["quantization"] = _usual_quantisation(job.way.quantization, task["dtype"])
    with timed(job.folder, "proof"):
        found = answer_in_fresh_process(task)
    if found is None:
        log.warning("the adapter was not loaded again in a fresh process: %s", NO_ROOM)
        return write_json(job.folder.proof, proof | {FOUND: None})
    tolerance = QUANTISED_TOLERANCE if quantised else TOLERANCE[job.way.precision]
    divergence = diverge(found, expected.answers, tolerance, expected.base_losses)
    if divergence.is_too_large:
        raise OutputError(
            f"{job.folder.adapter}: loaded by a fresh process it does not answer as evaluation.csv says ({divergence}; "
            f"{tolerance} is the most). Check the disk, then run `evaluate`, which measures it once more."
        )
    write_json(job.folder.proof, proof | {FOUND: asdict(divergence)})
    log.info("loaded again by a fresh process, peft and transformers alone: %s", divergence)


def proof_told(folder: RunFolder) -> str:
    """What proof.json says, for a person."""
    found = json.loads(folder.proof.read_text())[FOUND]
    return str(Divergence(**found)) if found else f"not done, {NO_ROOM}"


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
