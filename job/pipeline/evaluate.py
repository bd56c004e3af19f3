"""The step that evaluates: adapter against base on the held-out rows, and the verdict on it."""

import logging
from dataclasses import replace

from peft import PeftModel

from job.config.identity import identity
from job.evaluation.evaluate import Evaluation, write_csv
from job.evaluation.evaluate import evaluate as compare_with_base
from job.evaluation.verdict import Verdict, read_verdict
from job.model.answering import FILE, read_answering_config
from job.pipeline.claim import update_settings
from job.pipeline.context import RunContext, timed
from job.pipeline.records import VerdictRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.status import progress_writer, write_stage
from job.pipeline.verify import record_expected
from job.system.durable import write_text

log = logging.getLogger(__name__)


def evaluate(context: RunContext, model: PeftModel) -> None:
    """Replaces the run's evaluation by a new one, and its settings with it; a failure leaves the last one as it is."""
    evaluation, folder = _evaluate(context, model), context.folder
    if context.ranks.is_main:
        folder.verdict.unlink(missing_ok=True)
        folder.evaluation.unlink(missing_ok=True)
        update_settings(folder, identity(context.settings))
        if read_answering_config(folder.adapter) is None:  # of 0.1.0: else nobody but this evaluation would answer so
            write_text(folder.adapter / FILE, context.answering.to_json_string())
    record_expected(context, model, evaluation.adapter_outputs, evaluation.adapter_ids)
    if context.ranks.is_main:
        write_csv(evaluation, folder.evaluation)


def verdict_of(folder: RunFolder) -> Verdict:
    """The verdict on the run's evaluation, kept in verdict.json once it was made."""
    if not folder.verdict.exists():
        VerdictRecord(read_verdict(folder.evaluation)).write(folder.verdict)
    return VerdictRecord.read(folder.verdict).verdict


def _evaluate(context: RunContext, model: PeftModel) -> Evaluation:
    write_stage(context.folder, "evaluate")
    rows, most = context.prepared.evaluation, context.settings.eval_max_rows
    if len(rows) > most:
        log.info("evaluation: %d of %d held-out rows (EVAL_MAX_ROWS)", most, len(rows))
        rows = rows.select(range(most))
    log.info("evaluation: base and adapter answer %d rows", len(rows))
    decoding = replace(context.scoring.decoding, report=progress_writer(context.folder, "evaluate"))
    with timed(context.folder, "evaluation"):
        scoring = replace(context.scoring, decoding=decoding)
        return compare_with_base(model, context.tokenizer, (context.prepared.train, rows), scoring, context.ranks)
