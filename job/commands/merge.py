"""The command `merge`: base and adapter in one model that needs no peft, compared with the adapter before it counts."""

import logging
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path

from peft import PeftModel

from job.commands.predict import find_adapter
from job.config import configs
from job.config.settings import Settings
from job.data.prepare import load_prepared
from job.errors import Diverged, InputMissing, OutOfMemory
from job.evaluation.generate import generate, measure_losses
from job.model.load import BaseModel, load_adapter, load_base, load_config, load_tokenizer
from job.pipeline.proof import Expected, read_expected, sample, task_of
from job.pipeline.run_folder import RunFolder
from job.plan.memory import weights_bytes
from job.plan.shape import read_shape
from job.publish.adapter import read_job
from job.publish.prove import QUANTISED_TOLERANCE, TOLERANCE, Answers, Divergence, answer_in_fresh_process, diverge
from job.system.durable import check_space, replace_folder_durably, write_json
from job.system.hardware import detect
from job.system.lock import locked
from job.training.rehearse import free_memory

log = logging.getLogger(__name__)

SHARD_SIZE = "5GB"
MERGED, FACTS = "merged", "merge.json"
GPU_SHARE = 0.8
"""Of the GPU's memory that the weights may take; larger models are merged on the CPU."""


def merge_model(settings: Settings) -> None:
    """Writes OUTPUT_DIR/RUN_NAME/merged: weights as sharded safetensors, tokenizer and generation config, with what was compared.

    Raises Diverged, and leaves nothing, if the model read back from the disk does not answer as the adapter does.
    """
    adapter = find_adapter(settings)
    folder = adapter.with_name(MERGED)
    with locked(adapter.parent):
        partial = folder.with_name(f"{MERGED}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            divergences = _merge_and_compare(settings, adapter, partial)
            write_json(partial / FACTS, {name: asdict(one) for name, one in divergences.items()})
            replace_folder_durably(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    for name, one in divergences.items():
        log.info("merged model against %s: %s", name, one)
    log.info("merged model: %s", folder)


def _merge_and_compare(settings: Settings, adapter: Path, partial: Path) -> dict[str, Divergence]:
    """Writes the merged model to `partial`; how far it is from what. Raises Diverged."""
    job, known = read_job(adapter), _expected(settings, adapter)
    base = replace(configs.base_model(settings), model_id=configs.located(job["base_model"]))
    precision = job["precision"] if settings.merge_precision == "auto" else settings.merge_precision
    device = _device(settings, base, precision)
    rows = load_prepared(adapter.with_name("data")).evaluation.select(range(len(known.outputs)))
    decoding = known.decoding
    log.info("merging %s into %s in %s on the %s", adapter, base.model_id, precision, device)
    task = task_of(base, job["seq2seq"], device, precision, sample(rows, job["seq2seq"]), decoding)
    model = load_adapter(load_base(base, job["seq2seq"], configs.DTYPES[precision], None, device), adapter)
    tokenizer = load_tokenizer(base, adapter)
    prompts = [row["prompt"] for row in task["rows"]]
    unmerged = Answers(generate(model, tokenizer, prompts, decoding), measure_losses(model, tokenizer, list(rows), decoding))
    _save_merged(model, partial, precision)
    tokenizer.save_pretrained(partial)
    del model
    free_memory()
    found = answer_in_fresh_process(
        task | {"model": str(partial), "arguments": {"trust_remote_code": base.trust_remote_code}, "tokenizer": str(partial)}
    )
    if found is None:
        raise OutOfMemory(f"{partial}: no room to load it again. Set DEVICE=cpu.")
    trained = QUANTISED_TOLERANCE if job["quantization"] != "none" else max(TOLERANCE[precision], TOLERANCE[job["precision"]])
    divergences = {
        "the adapter beside the same weights": diverge(found, unmerged, TOLERANCE[precision]),
        "the adapter as it was trained": diverge(found, known.answers, trained, known.base_losses),
    }
    _check(divergences, adapter, precision)
    return divergences


def _expected(settings: Settings, adapter: Path) -> Expected:
    """What the run's evaluation found on its first rows. Raises InputMissing where there is nothing to compare with."""
    folder = RunFolder(settings.output_dir, settings.logs_dir, adapter.parent.name)
    if not folder.proof.exists() or load_prepared(folder.data) is None:
        raise InputMissing(f"{folder.path}: data/ and proof.json are needed to compare with. Run `evaluate` first.")
    return read_expected(folder)


def _check(divergences: dict[str, Divergence], adapter: Path, precision: str) -> None:
    for name, one in divergences.items():
        if one.is_too_large:
            raise Diverged(
                f"{adapter}: merged in {precision} it is not {name}: {one}, {one.tolerance} is the most. Nothing was kept. "
                f"{_advice(precision)}"
            )


def _advice(precision: str) -> str:
    return "Use the adapter unmerged." if precision == "fp32" else "Set MERGE_PRECISION=fp32, or use the adapter unmerged."


def _save_merged(model: PeftModel, folder: Path, precision: str) -> None:
    """Raises Diverged for weights that are not finite once merged."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")  # FLAN-T5's never were
            merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise Diverged(f"merging in {precision} overflows: {error} Set MERGE_PRECISION=fp32.") from error
    merged.save_pretrained(folder, max_shard_size=SHARD_SIZE)


def _device(settings: Settings, base: BaseModel, precision: str) -> str:
    """Where to merge. Raises DiskFull where the result would have no room."""
    hardware = detect(settings.device)
    needed = weights_bytes(read_shape(load_config(base)), precision, "none")
    check_space(settings.output_dir, needed, "the merged model takes")
    return hardware.device if hardware.device == "cuda" and needed < GPU_SHARE * hardware.memory_bytes else "cpu"
