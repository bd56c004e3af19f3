"""The command `merge`: base and adapter in one model that needs no peft, compared with the adapter before it counts."""

import logging
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel

from job.config.inputs import base_model
from job.config.settings import Settings
from job.data.prepared import load_prepared
from job.errors import DataError, InputMissing, OutOfMemory, VerificationFailed
from job.evaluation.generate import Decoding, decode, generate_ids, measure_losses
from job.model.answering import read_answering_config
from job.model.load import BaseModel, load_base, load_config, load_tokenizer
from job.model.lora import load_adapter
from job.pipeline.evaluate import answered_rows
from job.pipeline.new_evaluation import finish_replacing
from job.pipeline.records import AdapterRecord, ExpectedAnswers, ProofRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.verify import reload_rows, reload_task
from job.plan.dimensions import read_dimensions
from job.plan.memory import weights_bytes
from job.publish.verification import (
    QUANTISED_TOLERANCE,
    TOLERANCE,
    Answers,
    Difference,
    answer_in_fresh_process,
    compare_answers,
    with_answers,
)
from job.system.durable import check_space, replace_folder_durably, write_json
from job.system.hardware import DTYPES, detect, free_memory
from job.system.lock import locked
from job.system.seal import seal

log = logging.getLogger(__name__)

SHARD_SIZE = "5GB"
GPU_SHARE = 0.8
"""Of the GPU's memory that the weights may take; larger models are merged on the CPU."""


def merge(settings: Settings) -> None:
    """Writes OUTPUT_DIR/RUN_NAME/merged: weights as sharded safetensors, tokenizer and generation config, with what was compared.

    Raises VerificationFailed, and leaves nothing, if the model read back from the disk does not answer as the adapter does.
    """
    folder = RunFolder.of(settings)
    folder.check_adapter()
    partial = folder.merged.with_name(f"{folder.merged.name}.partial")
    with locked(folder.path):
        finish_replacing(folder)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            differences = _merge_and_compare(settings, folder, partial)
            compared: dict[str, object] = {name: asdict(difference) for name, difference in differences.items()}
            write_json(partial / folder.comparison.name, {"sealed": True} | compared)
            seal(partial)
            replace_folder_durably(partial, folder.merged)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    for name, difference in differences.items():
        log.info("merged model against %s: %s", name, difference)
    log.info("merged model: %s", folder.merged)


def _merge_and_compare(settings: Settings, folder: RunFolder, partial: Path) -> dict[str, Difference]:
    """Writes the merged model to `partial`; how far it is from what. Raises VerificationFailed."""
    adapter, (expected, evaluation) = AdapterRecord.read(folder.adapter_record), _recorded(folder)
    base = base_model(settings, adapter.base_model)
    precision = adapter.precision if settings.merge_precision == "auto" else settings.merge_precision
    device = _device(settings, base, precision)
    rows = reload_rows(evaluation.select(range(len(expected.outputs))), load_config(base), expected.max_new_tokens)
    task = reload_task(base, adapter.seq2seq, device, precision, rows, expected.decoding)
    log.info("merging %s into %s in %s on the %s", folder.adapter, base.model_id, precision, device)
    unmerged = _merge(base, folder.adapter, task, expected.decoding, precision, partial)
    merged = {"model": str(partial), "arguments": {"trust_remote_code": base.trust_remote_code}, "tokenizer": str(partial)}
    found = answer_in_fresh_process(task | merged | {"rows": with_answers(rows, unmerged, expected.answers)})
    if found is None:
        raise OutOfMemory(f"{partial}: no room in memory to load it again. Set DEVICE=cpu.")
    alike = adapter.quantization == "none"  # merged weights are not quantised
    trained = max(TOLERANCE[precision], TOLERANCE[adapter.precision]) if alike else QUANTISED_TOLERANCE
    decide = alike and expected.ids is not None
    differences = {
        "the adapter beside the same weights": compare_answers(found, unmerged, TOLERANCE[precision]),
        "the adapter as it was trained": compare_answers(found, expected.answers, trained, expected.base_losses, decide),
    }
    _check(differences, folder.adapter, precision)
    return differences


def _merge(base: BaseModel, adapter: Path, task: dict, decoding: Decoding, precision: str, partial: Path) -> Answers:
    """Writes the merged model to `partial`; the answers to the rows of `task` before the merge. The model leaves the memory.

    Each row is answered alone, as by the fresh process.
    """
    decoding = replace(decoding, batch_size=1)
    model = load_adapter(load_base(base, task["seq2seq"], DTYPES[precision], None, task["device"]), adapter)
    model.get_base_model().generation_config = read_answering_config(adapter) or model.generation_config
    tokenizer = load_tokenizer(base, adapter)
    ids = generate_ids(model, tokenizer, [row["prompt"] for row in task["rows"]], decoding)
    unmerged = Answers(decode(ids, tokenizer, decoding.kept), measure_losses(model, tokenizer, task["rows"], decoding), ids)
    _save_merged(model, partial, precision)
    tokenizer.save_pretrained(partial)
    del model
    free_memory()
    return unmerged


def _recorded(folder: RunFolder) -> tuple[ExpectedAnswers, Dataset]:
    """What the run's evaluation found on its first rows, and its rows. Raises InputMissing where they are not there."""
    prepared = load_prepared(folder.data)
    if prepared is None and folder.data.exists():
        raise DataError(f"{folder.data}: not as it was written. Run `evaluate`, which makes it again.")
    if prepared is None or not folder.proof.exists():
        raise InputMissing(f"{folder.path}: data/ and proof.json are needed to compare with. Run `evaluate` first.")
    return ProofRecord.read(folder.proof).expected, answered_rows(folder, prepared)


def _check(differences: dict[str, Difference], adapter: Path, precision: str) -> None:
    for name, difference in differences.items():
        if difference.is_too_large:
            found = f"differs from {name}: {difference}; {difference.tolerance} is allowed"
            if not difference.losses_differ:
                found = f"answers otherwise than {name}: {difference.answers}"
            raise VerificationFailed(
                f"{adapter}: merged in {precision} it {found}. Nothing was kept. {_advice(precision, difference.losses_differ)}"
            )


def _advice(precision: str, losses_differ: bool) -> str:
    if precision != "fp32":
        return "Set MERGE_PRECISION=fp32, or use the adapter unmerged."
    if losses_differ:
        return "Use the adapter unmerged."
    return (
        "The losses agree: an answer depends on its batch or on rounding. Set PER_DEVICE_EVAL_BATCH_SIZE=1, run `evaluate` and "
        "merge again, or use the adapter unmerged."
    )


def _save_merged(model: PeftModel, folder: Path, precision: str) -> None:
    """Raises VerificationFailed for weights that are not finite once merged."""
    tied = getattr(model.config, "tie_word_embeddings", False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")  # FLAN-T5's never were
            merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise VerificationFailed(f"merging in {precision} overflows: {error} Set MERGE_PRECISION=fp32.") from error
    if tied and _head_is_tied(merged):
        merged.config.tie_word_embeddings = True
    merged.save_pretrained(folder, max_shard_size=SHARD_SIZE)


def _head_is_tied(model: PreTrainedModel) -> bool:
    """Whether the output head shares its weight. PEFT looks at the encoder's embedding alone, and T5Gemma ties the decoder's."""
    head = model.get_output_embeddings()
    weights = [weight for _, weight in model.named_parameters(remove_duplicate=False)]
    return head is not None and sum(weight is head.weight for weight in weights) > 1


def _device(settings: Settings, base: BaseModel, precision: str) -> str:
    """Where to merge. Raises DiskFull where the result would have no room."""
    hardware = detect(settings.device)
    needed = weights_bytes(read_dimensions(load_config(base)), precision, "none")
    check_space(settings.output_dir, needed, "the merged model takes")
    return hardware.device if hardware.device == "cuda" and needed < GPU_SHARE * hardware.free_bytes else "cpu"
