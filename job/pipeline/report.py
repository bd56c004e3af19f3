"""What the report says, gathered from a run's folder."""

import json
from datetime import timedelta
from pathlib import Path
from statistics import median

from job.config.identity import variables
from job.config.inputs import published_model_id, train_source
from job.config.settings import Settings
from job.data.prepared import PreparedData
from job.errors import one_line
from job.evaluation.evaluate import read_csv
from job.evaluation.metrics import LOWER_IS_BETTER
from job.evaluation.verdict import MetricComparison, Verdict, describe, gains, is_share, name, number, signed
from job.model.licence import read_licence
from job.pipeline.context import RunContext
from job.pipeline.data_look import data_warnings, length_plots
from job.pipeline.records import AdapterRecord, PlanRecord, ProofRecord, versions
from job.publish import plots
from job.publish.report import marked, numbered, plot, shell_command

SHOWN_CHANGES = 10
"""Rows that are shown for each direction."""
NO_SCORES = {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
STAGES = ("preparation", "training", "evaluation", "proof")


def report_facts(context: RunContext, verdict: Verdict, proof: ProofRecord) -> dict[str, object]:
    """What the template of the report names."""
    folder, prepared = context.folder, context.prepared
    history = json.loads(folder.history.read_text()) if folder.history.exists() else []
    changed = variables(context.settings, exclude_defaults=True)
    licence = read_licence(context.base)
    better, worse = _changes(folder.evaluation, verdict.headline)
    return {
        "title": folder.name,
        "subtitle": f"{published_model_id(context.settings)} on {data_name(context)}: {len(prepared.train)} training rows",
        "verdict": verdict,
        "headline": describe(verdict.headline),
        "baseline": _baseline(verdict),
        "proof": str(proof),
        "scores": [_score_row(comparison) for comparison in verdict.compared],
        "score_plots": _score_plots(verdict),
        "ending": describe_ending(context.settings, AdapterRecord.read(folder.adapter_record), history),
        "curves": _curves(history),
        "costs": _costs(context, PlanRecord.read(folder.plan), history),
        "data": _data_lines(prepared),
        "data_warnings": data_warnings(prepared, context.settings.add_tokens),
        "data_page": folder.data_page.name,
        "lengths": length_plots(prepared),
        "best": better,
        "worst": worse,
        "settings": changed,
        "command": shell_command(changed),
        "versions": versions() | {"data (sha256)": prepared.fingerprint} | ({"base's licence": licence} if licence else {}),
    }


def describe_ending(settings: Settings, adapter: AdapterRecord, history: list[dict]) -> str:
    """Where the training ended and why, and which step's adapter was taken."""
    metric = settings.metric_for_best_model
    values = [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]
    best = (min if metric in LOWER_IS_BETTER else max)(values) if values else None
    since = len(values) - 1 - values.index(best) if best is not None else 0
    said = f"{adapter.steps} of {adapter.total_steps} steps"
    if adapter.steps < adapter.total_steps:
        patience = settings.early_stopping_patience
        is_early = patience is not None and since >= patience
        said += f": stopped early, {since} evaluations without a better {name(metric)}" if is_early else ": ended by MAX_HOURS"
    if adapter.adapter_step < adapter.steps and best is not None:
        said += f". The adapter is that of step {adapter.adapter_step}, where {name(metric)} was best: {number(metric, best)}"
    return f"{said}."


def data_name(context: RunContext) -> str:
    """What the training data is called on card and report: its file's name."""
    return one_line(Path(train_source(context.settings).location).name)


def _baseline(verdict: Verdict) -> str:
    one = verdict.headline
    return "" if one.baseline is None else f"{verdict.baseline} gives {number(one.metric, one.baseline)}"


def _score_row(one: MetricComparison) -> dict[str, str]:
    return {
        "name": name(one.metric) + _direction(one),
        "base": number(one.metric, one.base),
        "adapter": number(one.metric, one.adapter),
        "baseline": "" if one.baseline is None else number(one.metric, one.baseline),
        "difference": signed(one.metric, one.difference),
        "interval": f"{signed(one.metric, one.low)} to {signed(one.metric, one.high)}",
        "word": one.word,
        "kind": one.word if one.word in ("better", "worse") else "same",
    }


def _score_plots(verdict: Verdict) -> list[dict]:
    """A plot of the scores between 0 and 1, and one of each other, whose scale is its own."""
    shares = [one for one in verdict.compared if is_share(one.metric)]
    groups = [shares, *([one] for one in verdict.compared if not is_share(one.metric))]
    made = []
    for group in filter(None, groups):
        scale = 100 if is_share(group[0].metric) else 1
        scores = [(name(one.metric), scale * one.difference, scale * one.low, scale * one.high) for one in group]
        unit = "adapter - base, in points of 100" if scale > 1 else f"adapter - base{_direction(group[0])}"
        made.append(plot(plots.differences(scores, unit), "Dots: mean over the held-out rows; lines: 95 % intervals"))
    return made


def _direction(one: MetricComparison) -> str:
    return ", lower is better" if one.metric in LOWER_IS_BETTER else ""


def _curves(history: list[dict]) -> list[dict]:
    losses = {"training": numbered(history, "loss"), "held-out rows": numbered(history, "eval_loss")}
    rates = numbered(history, "learning_rate")
    found = []
    if losses := {label: points for label, points in losses.items() if points}:
        found.append(plot(plots.curve(losses, "loss"), "Cross-entropy a token of the answer"))
    for measured in sorted({key for entry in history for key in entry if key.startswith("eval_")} - NO_SCORES):
        label = name(measured.removeprefix("eval_"))
        found.append(plot(plots.curve({label: numbered(history, measured)}, label), "Held-out rows, answered while training"))
    if rates:
        found.append(plot(plots.curve({"learning rate": rates}, "learning rate"), "Learning rate"))
    return found


def _costs(context: RunContext, plan: PlanRecord, history: list[dict]) -> dict[str, str]:
    """What the run took; what is not known is left out."""
    costs = {
        "machine": context.hardware.describe(),
        "weights": f"{context.plan.precision}, quantisation {context.plan.quantization}",
    }
    costs |= {stage: str(timedelta(seconds=round(plan.seconds[stage]))) for stage in STAGES if stage in plan.seconds}
    for key, label, text in (
        ("examples_per_second", "speed", "{:.1f} examples/s"),
        ("tokens_per_second", "tokens", "{:,.0f} a second"),
        ("padding_share", "padding", "{:.0%} of all computed tokens"),
        ("peak_memory_gib", "peak memory", "{:.2f} GiB"),
    ):
        if values := [entry[key] for entry in history if key in entry]:
            costs[label] = text.format(max(values) if key == "peak_memory_gib" else median(values))
    if joules := sum(plan.energy_j.values()):
        costs["energy"] = f"{joules / 3.6e6:.3f} kWh of the GPU"
    price = context.settings.gpu_hourly_cost or plan.price_usd_per_hour
    if price and plan.seconds:
        costs["cost"] = f"{price * sum(plan.seconds.values()) / 3600:.2f} USD at {price:.2f} an hour"
    return costs


def _data_lines(prepared: PreparedData) -> list[str]:
    lines = [prepared.train_truncation.describe("Training rows"), prepared.eval_truncation.describe("Held-out rows")]
    return [*lines, *filter(None, [prepared.unknown.describe_added()])]


def _changes(path: Path, headline: MetricComparison) -> tuple[list[dict], list[dict]]:
    """The rows of an `evaluation.csv` that changed most by the headline's metric: the better ones, the worse ones."""
    rows, metric = read_csv(path), headline.metric
    gained = gains(rows, metric)
    order = sorted(range(len(rows)), key=gained.__getitem__)
    worst = [_change(rows[place], metric) for place in order[:SHOWN_CHANGES] if gained[place] < 0]
    return [_change(rows[place], metric) for place in order[::-1][:SHOWN_CHANGES] if gained[place] > 0], worst


def _change(row: dict[str, str], metric: str) -> dict[str, object]:
    base, adapter = (number(metric, float(row[f"{side}_{metric}"])) for side in ("base", "adapter"))
    return {
        "input": row["input"],
        "truth": row["ground_truth"],
        "base": marked(row["base_output"], row["ground_truth"]),
        "adapter": marked(row["adapter_output"], row["ground_truth"]),
        "metric": name(metric),
        "score": f"{base} -> {adapter}",
    }
