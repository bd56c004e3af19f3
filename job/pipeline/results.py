"""What a run leaves for people: the model card and the report, gathered from its folder."""

import json
import platform
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median

from job.config import configs
from job.config.settings import Settings
from job.data.tokens import spread_out
from job.evaluation.evaluate import read_csv
from job.evaluation.metrics import LOWER_IS_BETTER
from job.evaluation.verdict import Compared, Verdict, describe, is_share, name, number, read_verdict, signed
from job.pipeline.proof import proof_told
from job.pipeline.run_folder import RunFolder
from job.pipeline.steps import Job
from job.publish import plots
from job.publish.adapter import read_job
from job.publish.card import LIBRARIES, write_card
from job.publish.report import marked, numbered, plot, shell_command, write_report
from job.publish.upload import upload_if_possible
from job.training.curves import write_final_scores

CHANGES, HUB = 10, "hub"
"""Rows that are shown for each direction."""
NO_SCORES = {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
STAGES = ("preparation", "training", "evaluation", "proof")


def publish(job: Job) -> None:
    """Writes the model card and the report, adds the run to TensorBoard's table, uploads if wanted, and calls the run done."""
    verdict = read_verdict(job.folder.evaluation)
    variables = configs.variables(job.settings, exclude_defaults=True)
    write_card(job.folder.adapter / "README.md", _card_facts(job, verdict), verdict.compared, variables)
    _write_report(job, verdict, variables)
    if "tensorboard" in job.settings.report_to:
        scores = {one.metric: one.adapter for one in verdict.compared}
        write_final_scores(job.folder.logs, configs.compared(job.settings), scores, read_job(job.folder.adapter)["steps"])
    told = {"verdict": verdict.word, "summary": str(verdict), "headline": asdict(verdict.headline), "proof": proof_told(job.folder)}
    job.folder.tell("done", adapter=str(job.folder.adapter), **told)
    push(job.settings, job.folder)


def push(settings: Settings, folder: RunFolder) -> None:
    """Uploads the adapter of a run that is done, if that is wanted and was not done yet; `status.json` tells how it went."""
    status = json.loads(folder.status.read_text())
    if settings.push_to_hub and HUB not in status:
        status.pop("hub_error", None)
        token = configs.token(settings)
        told = upload_if_possible(folder.adapter, settings.hub_model_id, token, settings.hub_private_repo)
        folder.tell(**status | told)


def _card_facts(job: Job, verdict: Verdict) -> dict[str, object]:
    made = read_job(job.folder.adapter)
    return {
        "title": job.folder.path.name,
        "base": made["base_model"],
        "data": _data_name(job),
        "train_rows": len(job.prepared.train),
        "verdict": str(verdict),
        "proof": proof_told(job.folder),
        "seq2seq": job.seq2seq,
        "template": made["prompt_template"],
        "max_new_tokens": made["max_new_tokens"],
    }


def _data_name(job: Job) -> str:
    return Path(configs.train_source(job.settings).location).name


def _write_report(job: Job, verdict: Verdict, variables: dict[str, str]) -> None:
    history = json.loads(job.folder.history.read_text()) if job.folder.history.exists() else []
    plan = json.loads(job.folder.plan.read_text())
    better, worse = _changes(job.folder.evaluation, verdict.headline)
    facts = {
        "title": job.folder.path.name,
        "subtitle": f"{configs.published_model_id(job.settings)} on {_data_name(job)}: {len(job.prepared.train)} training rows",
        "verdict": verdict,
        "headline": describe(verdict.headline),
        "trivial": _trivial(verdict),
        "proof": proof_told(job.folder),
        "scores": [_score_row(one) for one in verdict.compared],
        "score_plots": _score_plots(verdict),
        "curves": _curves(history),
        "costs": _costs(job, plan, history),
        "cuts": [job.prepared.train_cut.describe("Training rows"), job.prepared.eval_cut.describe("Held-out rows")],
        "lengths": _lengths(job),
        "best": better,
        "worst": worse,
        "settings": variables,
        "command": shell_command(variables),
        "versions": {"python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES}
        | {"data (sha256)": job.prepared.fingerprint},
    }
    write_report(job.folder.report, facts)


def _trivial(verdict: Verdict) -> str:
    one = verdict.headline
    return "" if one.trivial is None else f"{verdict.trivial} gives {number(one.metric, one.trivial)}"


def _score_row(one: Compared) -> dict[str, str]:
    return {
        "name": name(one.metric) + _direction(one),
        "base": number(one.metric, one.base),
        "adapter": number(one.metric, one.adapter),
        "trivial": "" if one.trivial is None else number(one.metric, one.trivial),
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


def _direction(one: Compared) -> str:
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


def _costs(job: Job, plan: dict, history: list[dict]) -> dict[str, str]:
    """What it took; a row that is not known is left out."""
    found = {"machine": job.hardware.describe(), "weights": f"{job.way.precision}, quantisation {job.way.quantization}"}
    seconds = plan.get("seconds", {})
    found |= {stage: str(timedelta(seconds=round(seconds[stage]))) for stage in STAGES if stage in seconds}
    for key, label, text in (
        ("examples_per_second", "speed", "{:.1f} examples/s"),
        ("tokens_per_second", "tokens", "{:,.0f} a second"),
        ("padding_share", "padding", "{:.0%} of all computed tokens"),
        ("peak_memory_gib", "peak memory", "{:.2f} GiB"),
    ):
        if values := [entry[key] for entry in history if key in entry]:
            found[label] = text.format(max(values) if key == "peak_memory_gib" else median(values))
    if joules := sum(plan.get("energy_j", {}).values()):
        found["energy"] = f"{joules / 3.6e6:.3f} kWh of the GPU"
    price = job.settings.gpu_hourly_cost or plan.get("price_usd_per_hour")
    if price and seconds:
        found["cost"] = f"{price * sum(seconds.values()) / 3600:.2f} USD at {price:.2f} an hour"
    return found


def _lengths(job: Job) -> list[dict]:
    cut, made = job.prepared.train_cut, []
    for side, counts, longest in (
        ("input", job.prepared.source_lengths, cut.max_source_length),
        ("answer", job.prepared.target_lengths, cut.max_target_length),
    ):
        if counts:
            caption = f"Training rows by tokens an {side}, before the cut"
            made.append(plot(plots.histogram(spread_out(counts), longest, f"tokens an {side}"), caption))
    return made


def _changes(path: Path, headline: Compared) -> tuple[list[dict], list[dict]]:
    """The rows of an `evaluation.csv` that changed most by the headline's metric: the better ones, the worse ones."""
    rows = read_csv(path)
    metric, sign = headline.metric, -1 if headline.metric in LOWER_IS_BETTER else 1
    gains = [sign * (float(row[f"adapter_{metric}"]) - float(row[f"base_{metric}"])) for row in rows]
    order = sorted(range(len(rows)), key=gains.__getitem__)
    worst = [_change(rows[place], metric) for place in order[:CHANGES] if gains[place] < 0]
    return [_change(rows[place], metric) for place in order[::-1][:CHANGES] if gains[place] > 0], worst


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
