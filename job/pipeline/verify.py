"""The step after the evaluation: a fresh process, without this job, answers a few rows again. Its result is proof.json."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig

from job.errors import VerificationFailed
from job.evaluation.generate import Decoding, Ids, measure_losses, prompt_of
from job.model.load import BaseModel, check_code, load_config
from job.model.lora import base_only
from job.model.patches import owner_of_float32
from job.model.positions import read_positions
from job.pipeline.context import RunContext, timed
from job.pipeline.records import ExpectedAnswers, ProofRecord
from job.pipeline.status import write_stage
from job.publish.verification import (
    QUANTISED_TOLERANCE,
    TOLERANCE,
    Difference,
    answer_in_fresh_process,
    compare_answers,
    with_answers,
)
from job.system.hardware import DTYPES, free_memory

log = logging.getLogger(__name__)

ROWS = 8
"""Held-out rows that are answered once more."""
NO_MEMORY = "no room in memory"


@dataclass(frozen=True)
class HeldBase:
    """How a base model is held."""

    device: str
    precision: str
    quantization: str


def expected_answers(context: RunContext, model: PeftModel, outputs: Sequence[str], ids: Sequence[Ids]) -> ExpectedAnswers:
    """What `model` makes of the first held-out rows, which a fresh process has to make of them too. Every rank calls this.

    outputs, ids: its answers to them, as text and as tokens.
    """
    rows = list(context.prepared.answered.select(range(min(ROWS, len(outputs)))))
    decoding = context.scoring.decoding
    losses = measure_losses(model, context.tokenizer, rows, decoding)
    with base_only(model):
        base_losses = measure_losses(model, context.tokenizer, rows, decoding)
    answered = list(outputs[: len(rows)]), list(ids[: len(rows)])
    return ExpectedAnswers(
        answered[0], losses, base_losses, decoding.max_new_tokens, decoding.num_beams, answered[1], decoding.kept
    )


def verify(context: RunContext) -> None:
    """Adds to proof.json how far a fresh process is from the evaluation, unless it is there.

    Raises VerificationFailed where that is more than rounding.
    """
    proof, folder = ProofRecord.read(context.folder.proof), context.folder
    if proof.is_complete:
        return
    write_stage(folder, "verify")
    if context.shared:
        context.shared.base.drop()  # the winner's proof is the last thing of a sweep
    free_memory()
    held = HeldBase(context.hardware.device, context.plan.precision, context.plan.quantization)
    with timed(folder, "proof"):
        difference = answer_again(folder.adapter, context.base, context.seq2seq, held, context.prepared.answered, proof.expected)
    if difference is None:
        log.warning("the adapter was not loaded again in a fresh process: %s", NO_MEMORY)
        replace(proof, skipped=NO_MEMORY).write(folder.proof)
        return
    if difference.is_too_large:
        raise VerificationFailed(f"{folder.adapter}: loaded by a fresh process it does not answer as {_reason(difference)}")
    replace(proof, found=difference).write(folder.proof)
    log.info("loaded again by a fresh process, peft and transformers alone: %s", difference)


def _reason(difference: Difference) -> str:
    if difference.losses_differ:
        allowed = f"({difference}; {difference.tolerance} is allowed)"
        return f"evaluation.csv says {allowed}. Check the disk, then run `evaluate`, which evaluates it once more."
    return (
        f"evaluation.csv says: {difference.answers}. The losses agree: an answer depends on its batch or on rounding. Set "
        "PER_DEVICE_EVAL_BATCH_SIZE=1 and run `evaluate`; if that changes nothing, train with PRECISION=fp32 and another RUN_NAME."
    )


def answer_again(
    adapter: Path, base: BaseModel, seq2seq: bool, held: HeldBase, rows: Dataset, expected: ExpectedAnswers
) -> Difference | None:
    """How far a fresh process, which loads `adapter`, is from what was `expected` of the first `rows`.

    None where the memory has no room for it.
    """
    check_code(base, adapter)
    chosen = reload_rows(rows.select(range(len(expected.outputs))), load_config(base), expected.max_new_tokens)
    chosen = with_answers(chosen, expected.answers)
    task = reload_task(base, seq2seq, held.device, held.precision, chosen, expected.decoding)
    task |= {"adapter": str(adapter), "tokenizer": str(adapter)}
    if held.quantization != "none" and held.device == "cuda":
        task["quantization"] = _usual_quantization(held.quantization, task["dtype"])
    found = answer_in_fresh_process(task)
    if found is None:
        return None
    tolerance = TOLERANCE[held.precision] if held.quantization == "none" else QUANTISED_TOLERANCE
    decide = expected.ids is not None and _rounds_alike(base, seq2seq, held)
    return compare_answers(found, expected.answers, tolerance, expected.base_losses, decide)


def _rounds_alike(base: BaseModel, seq2seq: bool, held: HeldBase) -> bool:
    """Whether a fresh process holds the base's layers as the evaluation did, and each row's answer is that of the row alone.

    On a CPU it quantises nothing; T5's `wo` it never does; int8 rounds a row by what else is in its batch.
    """
    if held.quantization != "nf4" or held.device != "cuda":
        return held.quantization == "none"
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    return owner_of_float32(auto, load_config(base)) is None


def reload_rows(rows: Dataset, config: PreTrainedConfig, max_new_tokens: int) -> list[dict]:
    """Prepared rows as `reload.answer` takes them."""
    prompts = [prompt_of(row, config.is_encoder_decoder) for row in rows]
    positions = read_positions(config)
    room = [positions.room(len(prompt), max_new_tokens) for prompt in prompts]
    return [
        {"prompt": prompt, "input_ids": row["input_ids"], "labels": row["labels"], "max_new_tokens": tokens}
        for row, prompt, tokens in zip(rows, prompts, room, strict=True)
    ]


def reload_task(base: BaseModel, seq2seq: bool, device: str, precision: str, rows: list[dict], decoding: Decoding) -> dict:
    """A task of `reload.answer` for the untouched base model."""
    return {
        "model": base.model_id, "arguments": base.arguments(), "seq2seq": seq2seq, "device": device, "quantization": None,
        "dtype": str(DTYPES[precision]).removeprefix("torch."), "rows": rows, "adapter": None, "tokenizer": base.model_id,
        "num_beams": decoding.num_beams, "kept_special_tokens": list(decoding.kept),
    }  # fmt: skip


def _usual_quantization(quantization: str, dtype: str) -> dict[str, object]:
    """As people load such a base elsewhere, without this job's care for T5's `wo`."""
    if quantization == "int8":
        return {"load_in_8bit": True}
    nested = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    return {"load_in_4bit": True} | nested
