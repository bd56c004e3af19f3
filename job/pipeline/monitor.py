"""What a person watches while the job trains: TensorBoard's curves, and answers to the same rows after each evaluation."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

from peft import PeftModel

from job.config.identity import variables
from job.data.token_lengths import answer_lengths, expand_counts, token_lengths
from job.evaluation.evaluate import texts
from job.evaluation.generate import generate, prompt_of
from job.evaluation.metrics import METRICS, score
from job.pipeline.context import RunContext
from job.pipeline.live import live_figures
from job.pipeline.records import PlanRecord
from job.pipeline.status import progress_writer
from job.system.signals import stop_signals
from job.training.curves import Curves
from job.training.supervision import EvaluationStopped
from job.training.trackers import Tracker


def make_curves(context: RunContext) -> Curves | None:
    """The run's curves, if TensorBoard is wanted."""
    if "tensorboard" not in context.settings.report_to:
        return None
    prepared = context.prepared
    counts = {"input": prepared.source_lengths, "answer": prepared.target_lengths}
    lengths = {name: expand_counts(counted) for name, counted in counts.items() if counted}
    if not lengths:  # rows that came tokenised
        lengths = {"input": token_lengths(prepared.train, "input_ids"), "answer": answer_lengths(prepared.train)}
    return Curves(context.folder.logs, variables(context.settings), lengths, scores_answers(context))


def make_trackers(context: RunContext) -> list[Tracker]:
    """The other trackers of REPORT_TO."""
    names = [name for name in context.settings.report_to if name not in ("none", "tensorboard")]
    numbers = {name.upper(): value for name, value in context.settings if isinstance(value, int | float)}
    values = variables(context.settings) | numbers
    return [Tracker(name, context.folder.name, values, context.folder.logs) for name in names]


def scores_answers(context: RunContext) -> bool:
    """Whether an evaluation during training generates answers and scores them, beside the loss."""
    return context.settings.load_best_model_at_end and context.settings.metric_for_best_model != "loss"


def answer_scorer(context: RunContext, model: PeftModel, curves: Curves | None) -> Callable[[int], dict[str, float]]:
    """What an evaluation during training does beside the loss: a function of the step that returns scores by name.

    It shows the answers to the first EVAL_SAMPLES held-out rows in `curves`, and returns METRIC_FOR_BEST_MODEL over all rows if
    that is no loss.
    """
    settings, evaluation, ranks = context.settings, context.prepared.evaluation, context.ranks
    metric = settings.metric_for_best_model
    samples = settings.eval_samples if "tensorboard" in settings.report_to else 0
    scored = scores_answers(context)
    count = min(len(evaluation), settings.eval_max_rows if scored else samples)
    rows = evaluation.select(range(count))
    decoding = replace(context.scoring.decoding, report=_progress_until_stopped(context))
    names, custom_metric = ((metric,), None) if metric in METRICS else ((), context.scoring.custom_metric)

    def score_answers(step: int) -> dict[str, float]:
        if not count:
            return {}
        prompts = [prompt_of(row, context.seq2seq) for row in rows]
        inputs, truths = texts(rows, prompts, context.tokenizer, context.scoring.decoding.kept)
        mine, answered = ranks.share([len(prompt) for prompt in prompts]), None
        with contextlib.suppress(EvaluationStopped):
            answered = generate(model, context.tokenizer, [prompts[row] for row in mine], decoding)
        if None in ranks.gather(answered):
            raise EvaluationStopped
        outputs = ranks.collect(dict(zip(mine, answered or [], strict=True)))
        if curves and samples:
            curves.show(list(zip(inputs, truths, outputs, strict=True))[:samples], step)
        if not scored:
            return {}
        return ranks.from_main(lambda: {metric: mean(score(outputs, truths, names, custom_metric)[metric])})

    return score_answers


def _progress_until_stopped(context: RunContext) -> Callable[[str, int, int], None]:
    """Writes progress to status.json, and leaves the evaluation once a stop signal has arrived."""
    figures = live_figures(context.settings, PlanRecord.read(context.folder.plan)) if context.ranks.is_main else dict
    write = progress_writer(context.folder, "train", figures)

    def report(computing: str, done: int, total: int) -> None:
        if stop_signals.received:
            raise EvaluationStopped
        write(computing, done, total)

    return report
