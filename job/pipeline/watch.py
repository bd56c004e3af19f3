"""What a person watches while the job trains: the curves of TensorBoard, and answers to the same rows at each measurement."""

from collections.abc import Callable
from dataclasses import replace
from statistics import mean

from peft import PeftModel

from job.config import configs
from job.data.tokens import answer_lengths, spread_out, token_lengths
from job.evaluation.evaluate import texts
from job.evaluation.generate import generate, prompt_of
from job.evaluation.metrics import METRICS, score
from job.pipeline.run_folder import RunFolder
from job.pipeline.steps import Job, sign_of_life
from job.system.signals import stop_signals
from job.training.curves import Curves
from job.training.supervision import EvaluationStopped


def curves(job: Job) -> Curves | None:
    """The run's curves, if TensorBoard is wanted."""
    if "tensorboard" not in job.settings.report_to:
        return None
    lengths = {"input": job.prepared.source_lengths, "answer": job.prepared.target_lengths}
    spread = {name: spread_out(counts) for name, counts in lengths.items() if counts}
    if not spread:  # rows that came tokenised
        spread = {"input": token_lengths(job.prepared.train, "input_ids"), "answer": answer_lengths(job.prepared.train)}
    return Curves(job.folder.logs, configs.variables(job.settings), spread, is_scored(job))


def is_scored(job: Job) -> bool:
    """Whether a measurement answers the held-out rows and scores the answers."""
    return job.settings.load_best_model_at_end and job.settings.metric_for_best_model != "loss"


def examiner(job: Job, model: PeftModel, shown: Curves | None) -> Callable[[int], dict[str, float]]:
    """What measures `model` at each measurement, beside its loss.

    It shows the answers to the first EVAL_SAMPLES held-out rows, and returns METRIC_FOR_BEST_MODEL of all if that is no loss.
    """
    metric, samples = job.settings.metric_for_best_model, job.settings.eval_samples if shown else 0
    scored = is_scored(job)
    count = min(len(job.prepared.evaluation), job.settings.eval_max_rows if scored else samples)
    rows = job.prepared.evaluation.select(range(count))
    decoding = replace(job.scoring.decoding, report=_report(job.folder))
    names, own = ((metric,), None) if metric in METRICS else ((), job.scoring.own)

    def examine(step: int) -> dict[str, float]:
        if not count:
            return {}
        prompts = [prompt_of(row, job.seq2seq) for row in rows]
        inputs, truths = texts(rows, prompts, job.tokenizer)
        outputs = generate(model, job.tokenizer, prompts, decoding)
        if samples:
            shown.show(list(zip(inputs, truths, outputs, strict=True))[:samples], step)
        if not scored:
            return {}
        return {metric: mean(score(outputs, truths, names, own)[metric])}

    return examine


def _report(folder: RunFolder) -> Callable[[str, int, int], None]:
    """Tells that the run is alive, and leaves an evaluation that a stop signal met."""
    tell = sign_of_life(folder, "train")

    def report(what: str, done: int, total: int) -> None:
        if stop_signals.received:
            raise EvaluationStopped
        tell(what, done, total)

    return report
