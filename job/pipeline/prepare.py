"""The first step: everything that can be known before weights are loaded."""

import contextlib
import logging
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from job.config.inputs import base_model, data_config, languages
from job.config.libraries import check_trackers, weight_format
from job.config.scoring import make_scoring
from job.config.settings import Settings
from job.data.added_tokens import add_tokens
from job.data.chat import ends_of_turns
from job.data.data_config import ModelSpec
from job.data.lengths import LengthLimits
from job.data.prepare import has_other_rows, prepare
from job.data.prepared import PreparedData, read_prepared
from job.data.special_tokens import special_tokens_in_answers
from job.data.token_lengths import token_lengths
from job.data.used_rows import divide_held_out, share_of_training
from job.errors import AccessDenied, InputMissing, SettingsError, Transient
from job.model.answering import answering_config, load_own_config
from job.model.languages import choose_languages, describe_languages
from job.model.load import BaseModel, check_vocabulary, embeddings, fingerprint, is_seq2seq, load_base, load_config, load_tokenizer
from job.model.lora import load_adapter
from job.model.positions import read_positions, usual_length
from job.model.sharding import shard_base
from job.pipeline.claim import check_content
from job.pipeline.context import RunContext, timed
from job.pipeline.data_look import data_page, data_warnings, length_plots
from job.pipeline.plan import choose_eval_batch_size, plan_run
from job.pipeline.run_folder import RunFolder
from job.pipeline.shared import Preparation, Shared, link_data
from job.pipeline.status import write_stage
from job.pipeline.workload import measure_workload
from job.publish.data_page import write_data_page
from job.system.hardware import DTYPES, Hardware, check_computes, check_quantization, choose_precision, detect
from job.system.ranks import Ranks, this_rank

log = logging.getLogger(__name__)

TRAINING_DATA, BASE_MODEL = "the training data", "the base model"
"""What a run's settings.json has fingerprints of."""


def prepare_run(settings: Settings, folder: RunFolder, shared: Shared | None = None) -> RunContext:
    """The machine, the model's kind, the rows, the plan: what the other steps need, checked as far as it can be.

    Rank 0 prepares, the others wait for it. The smallest GPU decides the plan. shared: what other runs have prepared already.
    """
    ranks = this_rank()
    write_stage(folder, "prepare")
    with timed(folder, "preparation"):
        check_trackers(settings)
        made = _take(shared.preparation, settings, folder) if shared else prepare_once(settings, folder)
        spec, config, hardware = made.spec, made.config, made.hardware
        kept = special_tokens_in_answers(made.prepared.train, spec.tokenizer, spec.answering)
        scoring = make_scoring(settings, made.prepared, spec.limits.hard_target if spec.seq2seq else None, kept)
        longest = int(token_lengths(made.prepared.evaluation, "input_ids").max()), scoring.decoding.max_new_tokens
        prepared = _rows_of_run(settings, made.prepared)
        workload = measure_workload(settings, prepared, spec.seq2seq)
        plan = ranks.from_main(lambda: plan_run(settings, folder, hardware, config, workload))
        batch_size = choose_eval_batch_size(settings, hardware, config, (plan.precision, plan.quantization), longest)
        scoring = replace(scoring, decoding=replace(scoring.decoding, batch_size=batch_size))
    spec.answering.update(max_new_tokens=scoring.decoding.max_new_tokens, num_beams=scoring.decoding.num_beams)
    return RunContext(
        settings, folder, hardware, made.base, spec.seq2seq, spec.tokenizer, spec.answering, prepared, plan, scoring, ranks, shared
    )


def prepare_once(settings: Settings, folder: RunFolder) -> Preparation:
    """What no setting of the training changes: the machine, the model's kind, the rows, in `folder`."""
    hardware = min(this_rank().gather(check_hardware(settings)), key=lambda hardware: hardware.free_bytes)
    base = base_model(settings)
    config = load_config(base)
    spec = model_spec(settings, base, config)
    prepared = _shared_data(settings, spec, base, folder)
    spec = replace(spec, tokenizer=add_tokens(spec.tokenizer, prepared.unknown.added))
    return Preparation(hardware, base, config, spec, prepared, folder.data, _content(prepared, base))


def _content(prepared: PreparedData, base: BaseModel) -> dict[str, str]:
    return {TRAINING_DATA: prepared.fingerprint, BASE_MODEL: fingerprint(base)}


def _take(preparation: Preparation, settings: Settings, folder: RunFolder) -> Preparation:
    """`preparation`, whose data `folder` holds from now on as if it had been prepared there."""
    link_data(preparation, folder.data)
    check_content(folder, preparation.content)
    _write_data_page(settings, preparation.prepared, folder)
    return preparation


def _rows_of_run(settings: Settings, prepared: PreparedData) -> PreparedData:
    """`prepared` with the rows that this run uses."""
    train = share_of_training(prepared.train, settings.train_fraction, settings.seed)
    choosing, testing = divide_held_out(prepared.evaluation, settings.test_fraction, settings.seed)
    if len(train) < len(prepared.train):
        log.info("TRAIN_FRACTION=%g: %d of %d training rows", settings.train_fraction, len(train), len(prepared.train))
    if settings.test_fraction:
        log.info("TEST_FRACTION=%g: %d held-out rows choose, %d others give the verdict",
                 settings.test_fraction, len(choosing), len(testing))  # fmt: skip
    return replace(prepared, train=train, evaluation=choosing, test=testing if settings.test_fraction else None)


def _shared_data(settings: Settings, spec: ModelSpec, base: BaseModel, folder: RunFolder) -> PreparedData:
    """The prepared rows, which rank 0 makes; a rank that does not see its folder gets a copy."""
    ranks = this_rank()
    if ranks.is_main:
        if languages_told := describe_languages(spec.tokenizer):
            log.info(languages_told)
        begun_with = folder.read_settings().content.get(TRAINING_DATA) if folder.is_begun else None
        prepared = prepare_data(settings, spec, folder.data, begun_with)
        check_content(folder, _content(prepared, base))
        log.info(prepared.train_truncation.describe("training rows"))
        log.info(prepared.eval_truncation.describe("held-out rows"))
        for warning in data_warnings(prepared, settings.add_tokens):
            log.warning(warning)
        if added := prepared.unknown.describe_added():
            log.info(added)
        _write_data_page(settings, prepared, folder)
        local_copy(folder.data, ranks)
        return prepared
    return read_prepared(local_copy(folder.data, ranks))


def _write_data_page(settings: Settings, prepared: PreparedData, folder: RunFolder) -> None:
    write_data_page(folder.data_page, data_page(folder.name, prepared, settings.add_tokens), length_plots(prepared))


def local_copy(folder: Path, ranks: Ranks) -> Path:
    """`folder` of rank 0, or a copy of it where this rank does not see that; every rank calls this."""
    exists = ranks.gather(folder.exists())
    if all(exists):
        return folder
    files = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} if ranks.is_main else {}
    )
    files = ranks.broadcast(files)
    if folder.exists():
        return folder
    copy = Path(tempfile.mkdtemp(prefix="lora-job-")) / folder.name
    for name, content in files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    return copy


def check_hardware(settings: Settings) -> Hardware:
    """This machine. Raises HardwareError or SettingsError for one that cannot compute what the settings ask for."""
    hardware = detect(settings.device)
    log.info("hardware: %s", hardware.describe())
    check_quantization(settings.quantization, hardware)
    check_computes(hardware, DTYPES[choose_precision(settings.precision, hardware)], settings.quantization == "int8")
    return hardware


def model_spec(settings: Settings, base: BaseModel, config: PreTrainedConfig) -> ModelSpec:
    """What of the model its data depends on; no weights are read."""
    seq2seq, own = is_seq2seq(config, settings.task, base), load_own_config(base, config)
    tokenizer = load_tokenizer(base)
    check_vocabulary(base, config, tokenizer)
    choose_languages(tokenizer, languages(settings), own)
    positions = read_positions(config)
    limits = LengthLimits(usual_length(config, tokenizer), positions.source, not seq2seq, positions.target)
    answering = answering_config(own, config, tokenizer, ends_of_turns(tokenizer))
    return ModelSpec(tokenizer, seq2seq, limits, answering, embeddings(config))


def prepare_data(settings: Settings, spec: ModelSpec, folder: Path, expected: str | None = None) -> PreparedData:
    """The rows prepared in `folder`, whose fingerprint must be `expected` if that is given."""
    return prepare(data_config(settings), spec, folder, expected)


def check_same_rows(settings: Settings, folder: RunFolder) -> None:
    """Raises SettingsError where a finished run was made from other rows than there are now; rows that are gone say nothing."""
    with contextlib.suppress(InputMissing, AccessDenied, Transient):
        if has_other_rows(data_config(settings), folder.data):
            raise SettingsError(
                f"{folder.path} is finished, and was made from other rows than TRAIN_DATA={settings.train_data} "
                f"{'and EVAL_DATA hold' if settings.eval_data else 'holds'} now. Choose another RUN_NAME, or set OVERWRITE=true."
            )


def load_base_model(context: RunContext) -> PreTrainedModel:
    """The base model as this run's plan holds it."""
    dtype, quantization = weight_format(context.plan.precision, context.plan.quantization)
    device, sharded = context.hardware.device, context.plan.shards > 1  # a sharded base goes to the GPUs block by block
    if context.plan.precision != "fp32":
        torch.set_float32_matmul_precision("high")  # TF32, for what is computed in float32 beside a base that rounds more than that
    load = partial(load_base, context.base, context.seq2seq, dtype, quantization, device, sharded)
    model = context.shared.base.copy((dtype, context.plan.quantization, device, sharded), load) if context.shared else load()
    model.generation_config = context.answering
    return model


def load_trained_model(context: RunContext) -> PeftModel:
    """The base model with the run's adapter."""
    return shard_if_planned(context, load_adapter(load_base_model(context), local_copy(context.folder.adapter, context.ranks)))


def shard_if_planned(context: RunContext, model: PeftModel) -> PeftModel:
    """`model`, spread over the ranks if that is the plan."""
    if context.plan.shards > 1:
        shard_base(model, context.hardware.device, context.ranks.world_size)
    return model
