"""The step that evaluates: adapter against base on the held-out rows, and the verdict on it."""

import logging
from dataclasses import replace

from datasets import Dataset
from peft import PeftModel

from job.config.identity import EVALUATION, identity, is_same
from job.data.prepared import PreparedData
from job.data.used_rows import divide_held_out
from job.evaluation.evaluate import Evaluation, write_csv
from job.evaluation.evaluate import evaluate as compare_with_base
from job.evaluation.verdict import Verdict, read_verdict
from job.model.answering import FILE, read_answering_config
from job.pipeline.context import RunContext, timed
from job.pipeline.live import live_figures
from job.pipeline.new_evaluation import replaced_evaluation
from job.pipeline.records import PlanRecord, ProofRecord, VerdictRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.status import progress_writer, write_stage
from job.pipeline.verify import expected_answers
from job.system.durable import write_text

log = logging.getLogger(__name__)


def evaluate(context: RunContext, model: PeftModel) -> None:
    """Replaces the run's evaluation by a new one, and its settings with it; a failure leaves the last one as it is."""
    evaluation, folder = _evaluate(context, model), context.folder
    expected = expected_answers(context, model, evaluation.adapter_outputs, evaluation.adapter_ids)
    if not context.ranks.is_main:
        return
    if read_answering_config(folder.adapter) is None:  # of 0.1.0: else nobody but this evaluation would answer so
        write_text(folder.adapter / FILE, context.answering.to_json_string())
    record = folder.read_settings()
    with replaced_evaluation(folder) as new:
        write_csv(evaluation, new.evaluation)
        VerdictRecord(read_verdict(new.evaluation)).write(new.verdict)
        ProofRecord(expected).write(new.proof)
        replace(record, settings=record.settings | identity(context.settings)).write(new.settings)


def is_evaluated(context: RunContext) -> bool:
    """Whether there is an evaluation of the adapter, with what the settings ask of one."""
    recorded, asked = context.folder.read_settings().settings, identity(context.settings)
    same = all(is_same(name, recorded[name], asked[name]) for name in EVALUATION & recorded.keys() & asked.keys())
    return same and context.folder.evaluation.exists() and context.folder.proof.exists()


def verdict_of(folder: RunFolder) -> Verdict:
    """The verdict on the run's evaluation, kept in verdict.json once it was made."""
    if not folder.verdict.exists():
        VerdictRecord(read_verdict(folder.evaluation)).write(folder.verdict)
    return VerdictRecord.read(folder.verdict).verdict


def answered_rows(folder: RunFolder, prepared: PreparedData) -> Dataset:
    """The held-out rows of the run's verdict, which has the first EVAL_MAX_ROWS of them. prepared: as in its folder."""
    recorded = folder.read_settings().settings
    return divide_held_out(prepared.evaluation, recorded.get("test_fraction", 0), recorded.get("seed", 0))[1]


def _evaluate(context: RunContext, model: PeftModel) -> Evaluation:
    write_stage(context.folder, "evaluate")
    rows, most = context.prepared.answered, context.settings.eval_max_rows
    if len(rows) > most:
        log.info("evaluation: %d of %d held-out rows (EVAL_MAX_ROWS)", most, len(rows))
        rows = rows.select(range(most))
    log.info("evaluation: base and adapter answer %d rows", len(rows))
    figures = live_figures(context.settings, PlanRecord.read(context.folder.plan)) if context.ranks.is_main else dict
    decoding = replace(context.scoring.decoding, report=progress_writer(context.folder, "evaluate", figures))
    with timed(context.folder, "evaluation"):
        scoring = replace(context.scoring, decoding=decoding)
        return compare_with_base(model, context.tokenizer, (context.prepared.train, rows), scoring, context.ranks)
