"""The trials of a sweep as runs: their settings, what each came to, what they took."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState
from transformers import PreTrainedConfig

from job.config.identity import format_value, identity
from job.config.inputs import run_name
from job.config.search_space import Axis, Value, most_row_passes, row_passes, with_values
from job.config.settings import Settings
from job.errors import SettingsError
from job.evaluation.metrics import LOWER_IS_BETTER
from job.model.targets import find_named
from job.pipeline.plan import gpu_of
from job.pipeline.records import PlanRecord
from job.pipeline.run_folder import OF_SWEEP, RunFolder
from job.pipeline.sweep_study import ERROR
from job.plan.dimensions import without_weights
from job.system.hardware import Hardware

TEST_FRACTION = 0.5
"""Of the held-out rows, where a person says nothing: what chooses among trials must not judge the winner."""
OF_SWEEPS = ("sweep", "sweep_trials", "sweep_hours", "sweep_usd")
"""Settings that a trial, as a run, does not have."""
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "given up", TrialState.RUNNING: "under way"}


@dataclass(frozen=True)
class TriedRun:
    """A trial, and what it left."""

    number: int
    settings: Settings
    folder: RunFolder
    values: dict[str, str]
    """By variable, as a person would set them."""
    state: str
    measured: float | None
    """At its best evaluation, or the last one where that is what is taken."""
    error: str
    seconds: float
    seconds_training: float


def sweep_settings(settings: Settings) -> Settings:
    """The settings of the sweep itself, which trials have in common. Raises SettingsError for those that no sweep can have."""
    if settings.eval_strategy == "no":
        raise SettingsError("sweep: EVAL_STRATEGY=no measures nothing to choose by. Set EVAL_STRATEGY=epoch.")
    if settings.max_hours:
        raise SettingsError("sweep: MAX_HOURS is the end of one run. Set SWEEP_HOURS, and leave MAX_HOURS empty.")
    fraction = settings.test_fraction or TEST_FRACTION
    return settings.model_copy(update={"run_name": f"{run_name(settings)}{OF_SWEEP}", "test_fraction": fraction})


def sweep_identity(settings: Settings, axes: Sequence[Axis]) -> dict[str, object]:
    """What the trials of one study have in common: SWEEP, and the settings that it does not vary."""
    swept = {axis.name for axis in axes}
    return {name: value for name, value in identity(settings).items() if name not in swept} | {"sweep": settings.sweep}


def check_targets(settings: Settings, axes: Sequence[Axis], config: PreTrainedConfig) -> None:
    """Raises SettingsError where TARGET_MODULES has a choice with a name that no module of the model has."""
    wanted = [with_values(settings, {axis.name: one}) for axis in axes if axis.name == "target_modules" for one in axis.choices]
    names = [one.target_modules for one in wanted if not {"auto", "all-linear"} & set(one.target_modules)]
    if names:
        model = without_weights(config)
        for targets in names:
            find_named(targets, model)


def trial_settings(settings: Settings, number: int, values: Mapping[str, Value]) -> Settings:
    """The settings of an ordinary run with these values, named after the sweep. settings: of the sweep.

    Raises SettingsError where the values are refused, such as a number between the ends of a range or a combination.
    """
    changes = {name: Settings.model_fields[name].default for name in OF_SWEEPS} | {"run_name": f"{settings.run_name}-{number:02d}"}
    return with_values(settings, values).model_copy(update=changes)


def tried_run(settings: Settings, axes: Sequence[Axis], trial: FrozenTrial) -> TriedRun:
    """What a trial of the study is and left; its settings lack values that are refused. settings: of the sweep."""
    values = {axis.name: axis.rounded(trial.params[axis.name]) for axis in axes if axis.name in trial.params}
    shown = {name: str(value) for name, value in values.items()}
    try:
        own = trial_settings(settings, trial.number, values)
        shown = {name: format_value(getattr(own, name)) for name in values}
    except SettingsError:  # the trial fails with it, the sweep does not
        own = trial_settings(settings, trial.number, {})
    folder = RunFolder.of(own)
    seconds = PlanRecord.read(folder.plan).seconds if folder.plan.exists() else {}
    return TriedRun(
        number=trial.number,
        settings=own,
        folder=folder,
        values={name.upper(): value for name, value in shown.items()},
        state="failed" if ERROR in trial.user_attrs else STATES.get(trial.state, "not begun"),
        measured=trial.value,
        error=trial.user_attrs.get(ERROR, ""),
        seconds=sum(seconds.values()),
        seconds_training=seconds.get("training", 0.0),
    )


def measure_of(settings: Settings) -> str:
    """What trials are compared by: the metric that also chooses the best adapter of each, else the loss."""
    return settings.metric_for_best_model if settings.load_best_model_at_end else "loss"


def is_maximised(settings: Settings) -> bool:
    """Whether more is better."""
    return measure_of(settings) not in LOWER_IS_BETTER


def measurements(settings: Settings, history: Sequence[Mapping[str, float]]) -> list[float]:
    """What each evaluation of a training measured, in order."""
    name = f"eval_{measure_of(settings)}"
    return [entry[name] for entry in history if name in entry]


def outcome(settings: Settings, folder: RunFolder) -> float | None:
    """What the adapter that a training left is worth; None where nothing was measured."""
    values = measurements(settings, json.loads(folder.history.read_text()))
    if not values:
        return None
    if not settings.load_best_model_at_end:
        return values[-1]
    return max(values) if is_maximised(settings) else min(values)


def hourly_price(settings: Settings, hardware: Hardware, processes: int) -> float | None:
    """USD an hour of the machine, as set or as the catalogue has its GPUs, one a process; None where nobody knows."""
    if settings.gpu_hourly_cost or hardware.device == "cpu":
        return settings.gpu_hourly_cost
    price = gpu_of(settings, hardware).price_usd_per_hour
    return price and price * processes


def budget_s(settings: Settings, price: float | None) -> float:
    """Seconds of the machine that SWEEP_HOURS and SWEEP_USD allow. Raises SettingsError for a budget in USD without a price.

    price: of the machine, USD an hour.
    """
    if settings.sweep_usd and price is None:
        raise SettingsError("SWEEP_USD: what this machine costs is not known. Set GPU_HOURLY_COST, or SWEEP_HOURS instead.")
    hours = [settings.sweep_hours, settings.sweep_usd / price if settings.sweep_usd and price else None]
    return min((3600 * one for one in hours if one), default=float("inf"))


def longest_trial_s(settings: Settings, axes: Sequence[Axis], runs: Sequence[TriedRun], rows: int) -> float:
    """Seconds that the longest trial of the space would take, by the slowest of these; 0 before there is one.

    rows: prepared training rows.
    """
    most, longest = most_row_passes(settings, axes, rows), 0.0
    for run in (run for run in runs if run.state == "complete"):
        training = run.seconds_training * most / row_passes(run.settings, rows)
        longest = max(longest, run.seconds - run.seconds_training + training)
    return longest
