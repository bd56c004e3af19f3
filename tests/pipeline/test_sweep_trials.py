"""Trials as runs: their names and settings, what each is worth, what it took and may take."""

import json

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from job.config.search_space import read_axes
from job.errors import SettingsError
from job.pipeline.records import PlanRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.sweep_trials import (
    TriedRun,
    budget_s,
    hourly_price,
    is_maximised,
    longest_trial_s,
    measurements,
    outcome,
    sweep_identity,
    sweep_settings,
    trial_settings,
    tried_run,
)
from job.system.hardware import Hardware

CPU, V100 = Hardware("cpu", "CPU", 2**33), Hardware("cuda", "Tesla V100-SXM2-16GB", 16 * 2**30, (7, 0))
HISTORY = [
    {"step": 1, "loss": 3.0},
    {"step": 2, "eval_loss": 0.4, "eval_chrf": 5.0},
    {"step": 4, "eval_loss": 0.6, "eval_chrf": 7.0},
]


@pytest.fixture
def settings(make_settings):
    def make(**changes):
        return make_settings(**{"sweep": "LORA_R=8,16 LEARNING_RATE=1e-4..1e-2", "eval_strategy": "epoch"} | changes)

    return make


def test_a_sweep_keeps_half_of_the_held_out_rows_for_the_verdict_unless_a_person_says_otherwise(settings):
    assert sweep_settings(settings()).test_fraction == 0.5
    assert sweep_settings(settings(test_fraction=0.2)).test_fraction == 0.2
    assert sweep_settings(settings()).run_name == "r-sweep"


def test_a_trial_is_a_run_of_its_values_that_knows_nothing_of_a_sweep(settings):
    own = trial_settings(sweep_settings(settings(sweep_trials=30, sweep_hours=2)), 7, {"lora_r": "8", "learning_rate": 2e-4})
    assert (own.run_name, own.lora_r, own.learning_rate, own.test_fraction) == ("r-sweep-07", 8, 2e-4, 0.5)
    assert (own.sweep, own.sweep_trials, own.sweep_hours) == (None, 12, None)


def test_what_trials_have_in_common_is_all_but_what_is_swept(settings):
    common = sweep_identity(sweep_settings(settings()), read_axes(settings()))
    assert not {"lora_r", "learning_rate"} & set(common)
    assert common["lora_alpha"] == 32
    assert common["sweep"] == "LORA_R=8,16 LEARNING_RATE=1e-4..1e-2"


@pytest.mark.parametrize(
    ("changes", "worth", "maximised"),
    [
        ({}, 0.4, False),
        ({"load_best_model_at_end": False}, 0.6, False),
        ({"metric_for_best_model": "chrf"}, 7.0, True),
        ({"metric_for_best_model": "chrf", "load_best_model_at_end": False}, 0.6, False),
    ],
    ids=str,
)
def test_a_trial_is_worth_what_the_adapter_that_it_leaves_measured(settings, tmp_path, changes, worth, maximised):
    folder = RunFolder(tmp_path, tmp_path)
    folder.history.write_text(json.dumps(HISTORY))
    assert outcome(settings(**changes), folder) == worth
    assert is_maximised(settings(**changes)) == maximised
    assert outcome(settings(metric_for_best_model="rouge1"), folder) is None


def test_measurements_are_those_of_the_metric_in_order(settings):
    assert measurements(settings(), HISTORY) == [0.4, 0.6]


def run(settings, state="complete", **changes) -> TriedRun:
    own = settings(**changes)
    return TriedRun(0, own, RunFolder.of(own), {}, state, 1.0, "", 130.0, 100.0)


def test_the_longest_trial_is_foretold_from_the_slowest_by_its_rows(settings):
    swept = settings(sweep="NUM_TRAIN_EPOCHS=1..4 LORA_R=8,16", max_steps=None)
    tried = run(settings, max_steps=None, num_train_epochs=2)
    assert longest_trial_s(swept, read_axes(swept), [tried], rows=50) == 30 + 100 * 4 / 2
    given_up = run(settings, state="given up", max_steps=None)
    assert longest_trial_s(swept, read_axes(swept), [given_up], rows=50) == 0


def test_a_budget_is_the_smaller_of_hours_and_money(settings):
    assert budget_s(settings(), None) == float("inf")
    assert budget_s(settings(sweep_hours=2), None) == 7200
    assert budget_s(settings(sweep_hours=2, sweep_usd=1.5), 3.0) == 1800
    with pytest.raises(SettingsError, match=r"SWEEP_USD: what this machine costs is not known\. Set GPU_HOURLY_COST"):
        budget_s(settings(sweep_usd=1.5), None)


def test_the_price_is_the_one_that_is_set_else_that_of_the_catalogues_gpu(settings):
    assert hourly_price(settings(gpu_hourly_cost=9), V100, 1) == 9
    assert hourly_price(settings(), CPU, 1) is None
    assert hourly_price(settings(), V100, 1) == pytest.approx(3.06)


def test_eight_gpus_of_the_catalogue_cost_eight_times_as_much_and_a_price_that_is_set_is_that_of_the_machine(settings):
    swept = settings(sweep_usd=3.06)
    assert hourly_price(swept, V100, 8) == pytest.approx(8 * 3.06)
    assert budget_s(swept, hourly_price(swept, V100, 8)) == pytest.approx(3600 / 8)
    assert hourly_price(settings(gpu_hourly_cost=9), V100, 8) == 9


def test_a_trial_of_the_study_is_found_again_as_a_run(settings):
    own = sweep_settings(settings())
    folder = RunFolder.of(trial_settings(own, 0, {}))
    folder.path.mkdir(parents=True)
    PlanRecord("m", "fp32", "none", 8, 0, seconds={"training": 5.0, "preparation": 1.0}).write(folder.plan)
    spaces = {"lora_r": CategoricalDistribution(["8", "16"]), "learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
    trial = create_trial(params={"lora_r": "8", "learning_rate": 0.00123456}, distributions=spaces, value=0.3)
    trial.number = 0
    found = tried_run(own, read_axes(settings()), trial)
    assert (found.state, found.measured, found.seconds, found.seconds_training) == ("complete", 0.3, 6.0, 5.0)
    assert found.values == {"LORA_R": "8", "LEARNING_RATE": "0.00123"}
    assert found.folder == folder
