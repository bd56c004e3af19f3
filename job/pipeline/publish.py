"""The last step: model card, report, TensorBoard's table of runs, upload; then the run is done."""

from dataclasses import replace

from job.config.identity import hparams, variables
from job.config.inputs import hub_token
from job.config.settings import Settings
from job.data.chat_template import adapt, template_traits
from job.evaluation.verdict import Verdict
from job.model.licence import read_licence
from job.pipeline.context import RunContext
from job.pipeline.evaluate import verdict_of
from job.pipeline.records import AdapterRecord, ProofRecord, StatusRecord, versions
from job.pipeline.report import data_name, report_facts
from job.pipeline.run_folder import SEALED, RunFolder
from job.pipeline.status import write_status
from job.publish.adapter import CARD
from job.publish.card import write_card
from job.publish.report import write_report
from job.publish.upload import upload_if_possible
from job.system.durable import copy_files
from job.system.seal import seal_again, seal_files
from job.training.curves import write_final_scores


def publish(context: RunContext) -> None:
    """Writes the model card and the report, adds the run to TensorBoard's table, calls the run done, uploads if wanted."""
    folder, verdict = context.folder, verdict_of(context.folder)
    adapter, proof = AdapterRecord.read(folder.adapter_record), ProofRecord.read(folder.proof)
    changed = variables(context.settings, exclude_defaults=True)
    write_card(folder.adapter / CARD, _card_facts(context, adapter, proof, verdict), verdict.compared, changed)
    if adapter.sealed:
        seal_again(folder.adapter, CARD)
    write_report(folder.report, report_facts(context, verdict, proof))
    if "tensorboard" in context.settings.report_to:
        scores = {comparison.metric: comparison.adapter for comparison in verdict.compared}
        write_final_scores(folder.logs, hparams(context.settings), scores, adapter.steps)
    seal_files(folder.path, [name for name in SEALED if (folder.path / name).exists()])
    done = StatusRecord(
        "done", adapter=str(folder.adapter), verdict=verdict.word, summary=str(verdict), headline=verdict.headline,
        proof=str(proof), sealed=True,
    )  # fmt: skip
    write_status(folder, done)
    hand_over(context.settings, folder)


def hand_over(settings: Settings, folder: RunFolder) -> None:
    """Puts the adapter of a run that is done where it is wanted beside its folder: EXPORT_DIR, the hub."""
    export(settings, folder)
    upload_once(settings, folder)


def export(settings: Settings, folder: RunFolder) -> None:
    """Copies the adapter to EXPORT_DIR, if that is wanted."""
    if settings.export_dir:
        copy_files(folder.adapter, settings.export_dir)


def upload_once(settings: Settings, folder: RunFolder) -> None:
    """Uploads the adapter of a run that is done, if that is wanted and was not done yet; status.json says how it went."""
    status = StatusRecord.read(folder.status)
    if settings.push_to_hub and settings.hub_model_id and status.hub is None:
        address, error = upload_if_possible(folder.adapter, settings.hub_model_id, hub_token(settings), settings.hub_private_repo)
        write_status(folder, replace(status, hub=address, hub_error=error))


def _card_facts(context: RunContext, adapter: AdapterRecord, proof: ProofRecord, verdict: Verdict) -> dict[str, object]:
    return {
        "title": context.folder.name,
        "base": adapter.base_model,
        "licence": read_licence(context.base),
        "data": data_name(context),
        "train_rows": len(context.prepared.train),
        "verdict": str(verdict),
        "proof": str(proof),
        "seq2seq": context.seq2seq,
        "template": adapter.prompt_template,
        "tokenizer": context.prepared.unknown.describe_added(),
        "keeps_special_tokens": bool(adapter.kept_special_tokens),
        "begins_with_language": context.answering.forced_bos_token_id is not None,
        "versions": versions(),
    } | (_chat_facts(context, adapter) if adapter.chat else {})


def _chat_facts(context: RunContext, adapter: AdapterRecord) -> dict[str, object]:
    opening = adapter.chat_opening or {"messages": [], "tools": None}
    asked = [*opening["messages"], {"role": "user", "content": "..."}]
    return {"chat": adapt(asked, template_traits(context.tokenizer)), "tools": opening["tools"]}
