"""A sweep's study, in SQLite: which values to try next, what came of those before, what mattered.

A trial's values follow from the seed, its number and the trials before it, so a study that was cut off and goes on is the same.
"""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from job.config.search_space import Axis, Value
from job.errors import SettingsError

STARTUP_TRIALS = 4
"""At random, before TPE has something to go by."""
FEWEST_TO_JUDGE, FIRST_JUDGED = 4, 2
"""Pruning needs so many complete trials, and begins with this evaluation of a trial: the first one is told by the warm-up."""
SESSION, TAKEN, ERROR = "session", "taken", "error"
"""Attributes of a trial: who is at it, since when (seconds since 1970), and why it failed."""
LEAST_FOR_IMPORTANCES = 4
"""Complete trials."""


Values = Mapping[str, Value]


def open_study(path: Path, identity: Mapping[str, object], maximise: bool, starts: Sequence[Values]) -> optuna.Study:
    """The study at `path`, made if it is not there.

    identity: what its trials have in common. starts: values that are tried first. Raises SettingsError for a study of another
    identity.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{path}", study_name="sweep", load_if_exists=True, direction="maximize" if maximise else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FEWEST_TO_JUDGE, n_warmup_steps=FIRST_JUDGED),
    )  # fmt: skip
    before = study.user_attrs.get("identity")
    if before is not None and before != dict(identity):
        different = [name for name, value in identity.items() if before.get(name) != value]
        changes = ", ".join(f"{name.upper()} was {before.get(name)} and is {identity[name]}" for name in different)
        raise SettingsError(
            f"{path.parent} holds a sweep with other settings: {changes}. Choose another RUN_NAME, or set OVERWRITE=true."
        )
    if before is None:
        enqueue_missing(study, starts)
        study.set_user_attr("identity", dict(identity))
    return study


def enqueue_missing(study: optuna.Study, wanted: Sequence[Values]) -> None:
    """Has those of the `wanted` values tried next that no trial of the study has."""
    for values in wanted:
        study.enqueue_trial(dict(values), skip_if_exists=True)


def next_trial(study: optuna.Study, axes: Sequence[Axis], session: str, most: int, seed: int) -> tuple[optuna.Trial, bool] | None:
    """The trial to go on with, which nobody of this `session` is at, and whether it is new; None where `most` are begun.

    One process at a time may ask. A trial that is running in another session was killed: the folder of the sweep is locked.
    """
    begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    killed = [one for one in begun if one.state == TrialState.RUNNING and one.user_attrs.get(SESSION) != session]
    if not killed and len(begun) >= most:
        return None
    place = len(begun) - len(killed)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=(seed * 1_000_003 + place) % 2**32)
    trial = optuna.Trial(study, killed[0]._trial_id) if killed else study.ask()
    trial.set_user_attr(TAKEN, time.time())  # first: other processes read it of trials of their session
    trial.set_user_attr(SESSION, session)
    suggest(trial, axes)
    return trial, not killed


def running_s(study: optuna.Study, session: str, now: float) -> float:
    """Seconds that the processes of this `session` have been at the trials that they are at. now: seconds since 1970."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return sum(now - one.user_attrs[TAKEN] for one in running if one.user_attrs.get(SESSION) == session)


def suggest(trial: optuna.Trial, axes: Sequence[Axis]) -> dict[str, Value]:
    """The values of a trial, the same however often they are asked for."""
    found: dict[str, Value] = {}
    for axis in axes:
        if axis.choices:
            found[axis.name] = trial.suggest_categorical(axis.name, axis.choices)
        elif axis.whole:
            found[axis.name] = trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.logarithmic)
        else:
            found[axis.name] = axis.rounded(trial.suggest_float(axis.name, axis.low, axis.high, log=axis.logarithmic))
    return found


def is_hopeless(trial: optuna.Trial, values: Sequence[float]) -> bool:
    """Whether the median of the complete trials was better at this point: after the last of these `values`, an evaluation each.

    They are kept in the study. Of a trial that was killed, some were: it goes the way that it went.
    """
    known = next(one for one in trial.study.get_trials(deepcopy=False) if one.number == trial.number).intermediate_values
    for number, value in enumerate(values, start=1):
        if number not in known:
            trial.report(value, number)
    return len(values) == max([len(values), *known]) and trial.should_prune()


def finish_trial(study: optuna.Study, trial: optuna.Trial, value: float | None, error: str = "") -> None:
    """Records what a trial came to; a `value` of None, or one that is not finite, is that of one that was given up or failed."""
    if error:
        trial.set_user_attr(ERROR, error)
    if value is not None and math.isfinite(value):
        study.tell(trial, value)
    else:
        study.tell(trial, state=TrialState.PRUNED)


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that were trained to the end, the best first."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(trials, key=lambda trial: (sign * (trial.value or 0), trial.number))


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each variable in what made trials good, by PED-ANOVA; none where too few trials or variables are there.

    Watanabe et al., PED-ANOVA (IJCAI 2023).
    """
    trials = complete(study)
    if len(trials) < LEAST_FOR_IMPORTANCES or len(trials[0].params) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.3))
    return found if all(map(math.isfinite, found.values())) and any(found.values()) else {}
