"""The study, driven by objectives whose best values are known: it finds them, and is the same however often it was cut off."""

import math
import time
from pathlib import Path
from statistics import median

import optuna
import pytest
from optuna.trial import TrialState

from job.config.search_space import Axis
from job.errors import SettingsError
from job.pipeline import sweep_study
from job.pipeline.sweep_study import complete, finish_trial, importances, is_hopeless, next_trial, open_study, running_s, suggest

pytestmark = pytest.mark.slow

AXES = (Axis("learning_rate", (), 1e-5, 1e-1), Axis("lora_r", ("8", "16", "32")), Axis("lora_alpha", (), 1, 64, whole=True))
BEST_RATE = 2e-3


def objective(values: dict) -> float:
    """Best at BEST_RATE, by far; a rank of 16 is a little better than others."""
    return (math.log10(values["learning_rate"] / BEST_RATE)) ** 2 + 0.01 * (values["lora_r"] != "16")


def evaluations(values: dict) -> list[float]:
    """What five evaluations of a training measure, on their way to the objective."""
    return [objective(values) + 1 / number for number in range(1, 6)]


class Killed(Exception):
    """In place of a SIGKILL."""


def run_study(path: Path, most: int, kill_at: tuple[int, int] | None = None, session: str = "a", maximise: bool = False) -> None:
    """Goes through trials as the command does. kill_at: number of a trial, and of the evaluation after which all ends."""
    study = open_study(path, {"sweep": "..."}, maximise, [])
    while found := next_trial(study, AXES, session, most, seed=7):
        trial, _ = found
        values, seen = suggest(trial, AXES), []
        for number, value in enumerate(evaluations(values), start=1):
            seen.append(-value if maximise else value)
            given_up = is_hopeless(trial, seen)
            if kill_at == (trial.number, number):
                raise Killed
            if given_up and number < 5:
                break
        finish_trial(study, trial, seen[-1] if len(seen) == 5 else None)


def contents(path: Path) -> list[tuple]:
    trials = load(path).trials
    return [(one.number, one.params, one.state, one.value, one.intermediate_values) for one in trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A study of twenty trials that nobody touched."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    run_study(path, most=20)
    return path


def load(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{path}")


def test_the_best_learning_rate_of_a_known_objective_is_found(whole):
    best = complete(load(whole))[0]
    assert abs(math.log10(best.params["learning_rate"] / BEST_RATE)) < 0.25, "of four decades"


def test_what_is_better_when_it_is_more_is_searched_for_upwards(tmp_path, whole):
    run_study(tmp_path / "study.db", most=6, maximise=True)
    upwards, downwards = contents(tmp_path / "study.db"), contents(whole)[:6]
    assert [one[1] for one in upwards] == [one[1] for one in downwards]
    assert [one[3] for one in upwards] == [-one[3] for one in downwards]
    assert complete(load(tmp_path / "study.db"))[0].value == max(one[3] for one in upwards if one[2] == TrialState.COMPLETE)


@pytest.mark.parametrize("kill_at", [(3, 5), (6, 2)])
def test_a_study_that_was_killed_in_the_middle_of_a_trial_goes_on_as_if_it_had_not_been(tmp_path, whole, kill_at):
    with pytest.raises(Killed):
        run_study(tmp_path / "killed.db", most=8, kill_at=kill_at)
    run_study(tmp_path / "killed.db", most=8, session="b")
    assert contents(tmp_path / "killed.db") == contents(whole)[:8]


def test_more_trials_later_are_those_that_more_trials_at_once_would_have_been(tmp_path, whole):
    for most in (3, 6):
        run_study(tmp_path / "twice.db", most=most, session=str(most))
    assert contents(tmp_path / "twice.db") == contents(whole)[:6]


def test_a_trial_is_given_up_where_the_median_of_the_complete_ones_was_better(whole):
    found = contents(whole)
    assert {TrialState.PRUNED, TrialState.COMPLETE} == {state for *_, state, _, _ in found}
    for number, _, state, _, seen in found:
        before = [values for _, _, other, _, values in found[:number] if other == TrialState.COMPLETE]
        worse = [
            step
            for step in range(sweep_study.FIRST_JUDGED, 5)
            if step in seen and len(before) >= sweep_study.FEWEST_TO_JUDGE
            and min(value for at, value in seen.items() if at <= step) > median(values[step] for values in before)
        ]  # fmt: skip
        assert (state == TrialState.PRUNED) == bool(worse), f"trial {number}"
        assert not worse or len(seen) == worse[0], f"trial {number} ended where it was worse first"


def test_two_processes_of_one_session_never_have_the_same_trial(tmp_path):
    study = open_study(tmp_path / "study.db", {}, False, [])
    numbers = [next_trial(study, AXES, "together", 3, seed=1) for _ in range(4)]
    assert [found[0].number for found in numbers[:3]] == [0, 1, 2]
    assert numbers[3] is None


def test_a_trial_of_an_earlier_session_is_gone_on_with_even_if_no_new_one_may_begin(tmp_path):
    study = open_study(tmp_path / "study.db", {}, False, [])
    begun, is_new = next_trial(study, AXES, "first", 5, seed=1)
    again, is_new_now = next_trial(study, AXES, "second", 0, seed=1)
    assert (again.number, is_new, is_new_now) == (begun.number, True, False)
    assert suggest(again, AXES) == suggest(begun, AXES)
    assert next_trial(study, AXES, "second", 0, seed=1) is None


def test_the_time_of_trials_that_run_is_counted_from_when_this_session_took_them(tmp_path):
    study = open_study(tmp_path / "study.db", {}, False, [])
    next_trial(study, AXES, "killed", 5, seed=1)
    now = time.time()
    assert running_s(study, "now", now + 500) == 0, "nobody is at it"
    next_trial(study, AXES, "now", 5, seed=1)
    next_trial(study, AXES, "now", 5, seed=1)
    assert running_s(study, "now", now + 1000) == pytest.approx(2000, abs=60)
    ended, _ = next_trial(study, AXES, "now", 5, seed=1)
    finish_trial(study, ended, 0.5)
    assert running_s(study, "now", now + 1000) == pytest.approx(2000, abs=60)


def test_what_a_person_has_set_is_tried_first(tmp_path):
    start = {"learning_rate": 1e-3, "lora_r": "16", "lora_alpha": 32}
    study = open_study(tmp_path / "study.db", {}, False, [start])
    trial, _ = next_trial(open_study(tmp_path / "study.db", {}, False, [start]), AXES, "a", 5, seed=1)
    assert suggest(trial, AXES) == start
    assert len(study.trials) == 1


def test_a_study_of_other_settings_is_refused_by_their_names(tmp_path):
    open_study(tmp_path / "study.db", {"sweep": "LORA_R=8,16", "seed": 1}, False, [])
    with pytest.raises(SettingsError, match=r"holds a sweep with other settings: SEED was 1 and is 2\. Choose another RUN_NAME"):
        open_study(tmp_path / "study.db", {"sweep": "LORA_R=8,16", "seed": 2}, False, [])


def test_a_trial_that_failed_or_measured_no_number_is_none_of_the_complete_ones(tmp_path):
    study = open_study(tmp_path / "study.db", {}, False, [])
    for value, error in ((math.nan, ""), (None, "Diverged: at step 3"), (0.5, "")):
        trial, _ = next_trial(study, AXES, "a", 9, seed=1)
        finish_trial(study, trial, value, error)
    assert [trial.value for trial in complete(study)] == [0.5]
    assert study.trials[1].user_attrs[sweep_study.ERROR] == "Diverged: at step 3"


def test_what_matters_most_is_what_the_objective_depends_on_most(whole):
    shares = importances(load(whole))
    assert max(shares, key=shares.get) == "learning_rate"
    assert sum(shares.values()) == pytest.approx(1)


def test_few_trials_tell_nothing_of_what_matters(tmp_path):
    run_study(tmp_path / "study.db", most=1)
    assert importances(load(tmp_path / "study.db")) == {}
