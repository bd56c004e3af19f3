"""What the page of a sweep says, gathered from its study and the folders of its trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import optuna

from job.config.identity import variables
from job.config.inputs import published_model_id
from job.config.settings import Settings
from job.evaluation.learning_curve import LearningCurve
from job.evaluation.metrics import LOWER_IS_BETTER
from job.evaluation.verdict import Verdict, describe, is_share, name, number
from job.pipeline.records import versions
from job.pipeline.run_folder import RunFolder
from job.pipeline.sweep_study import complete, importances
from job.pipeline.sweep_trials import TriedRun, is_maximised, measure_of
from job.publish import plots
from job.publish.report import plot, render, shell_command
from job.system.durable import write_text

TEMPLATE = "sweep.html.j2"


@dataclass(frozen=True)
class Found:
    """What a sweep found beside its trials, and what it was found with."""

    verdict: Verdict
    """Of the winner."""
    curve: LearningCurve | None
    price: float | None
    """Of the machine, USD an hour."""
    processes: int = 1
    """That had a trial each."""


def write_sweep_page(folder: RunFolder, settings: Settings, study: optuna.Study, runs: Sequence[TriedRun], found: Found) -> Path:
    """Writes `sweep.html` and returns where it is. settings: of the sweep."""
    page = folder.path / "sweep.html"
    write_text(page, render(TEMPLATE, sweep_facts(settings, study, runs, found)))
    return page


def sweep_facts(settings: Settings, study: optuna.Study, runs: Sequence[TriedRun], found: Found) -> dict[str, object]:
    """What the template of the page names."""
    verdict, curve = found.verdict, found.curve
    order = [trial.number for trial in complete(study)]
    best = next(run for run in runs if run.number == order[0])
    chosen = variables(best.settings, exclude_defaults=True)
    return {
        "title": settings.run_name,
        "subtitle": f"{published_model_id(settings)}: {len(runs)} trials of {settings.sweep}",
        "verdict": verdict,
        "headline": describe(verdict.headline),
        "best": best,
        "measure": name(measure_of(settings)) + (", lower is better" if measure_of(settings) in LOWER_IS_BETTER else ""),
        "variables": list(runs[0].values),
        "trials": [_line(run, settings, order) for run in runs],
        "plots": _plots(settings, study, runs, curve),
        "learning": str(curve) if curve else "",
        "costs": _costs(runs, found.price, found.processes),
        "command": shell_command(chosen),
        "versions": versions() | {"optuna": optuna.__version__},
    }


def _line(run: TriedRun, settings: Settings, order: list[int]) -> dict[str, object]:
    measured = "" if run.measured is None else _number(measure_of(settings), run.measured)
    return {
        "name": run.folder.name,
        "values": list(run.values.values()),
        "measured": measured,
        "state": f"{run.state}: {run.error}" if run.error else run.state,
        "place": order.index(run.number) + 1 if run.number in order else "",
        "took": _time(run.seconds),
    }


def _plots(settings: Settings, study: optuna.Study, runs: Sequence[TriedRun], curve: LearningCurve | None) -> list[dict]:
    measure = measure_of(settings)
    ended, given_up = (
        [(run.number, run.measured) for run in runs if run.state == state and run.measured is not None]
        for state in ("complete", "given up")
    )
    made = [plot(plots.best_so_far(ended, given_up, name(measure), is_maximised(settings)), "Each trial at its best evaluation")]
    if shares := importances(study):
        named = {key.upper(): share for key, share in shares.items()}
        made.append(plot(plots.bars(named, "share"), "What mattered among these trials (PED-ANOVA); of few trials it is a hint"))
    if curve:
        made.append(
            plot(
                plots.power_law(curve.rows, curve.losses, curve.exponent),
                "Loss of the verdict's rows by training rows, and the power law through it",
            )
        )
    return made


def _costs(runs: Sequence[TriedRun], price: float | None, processes: int) -> dict[str, str]:
    """price: of the machine, USD an hour."""
    seconds = sum(run.seconds for run in runs)
    costs = {"all trials": _time(seconds), "a trial, on average": _time(seconds / len(runs))}
    if price:
        costs["cost"] = f"{price * seconds / processes / 3600:.2f} USD at {price:.2f} an hour of the machine"
    return costs


def _number(measure: str, value: float) -> str:
    """A measurement: trials are often near to each other."""
    return number(measure, value) if is_share(measure) else f"{value:.4g}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
