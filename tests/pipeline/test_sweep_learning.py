"""The learning curve of a sweep: the best trial of each share, on the verdict's rows, measured once."""

import json

import numpy as np
import optuna
import pytest

from job.commands.train import train
from job.evaluation.generate import measure_losses
from job.pipeline import sweep_learning
from job.pipeline.prepare import load_trained_model, prepare_once, prepare_run
from job.pipeline.run_folder import RunFolder
from job.pipeline.shared import Shared
from job.pipeline.sweep_learning import find_learning_curve
from job.pipeline.sweep_trials import TriedRun

pytestmark = pytest.mark.slow


@pytest.fixture
def ranked(make_settings) -> tuple[list[TriedRun], Shared]:
    """Three trained runs, the best first: two of half the rows, one of all."""
    settings = make_settings(run_name="s", test_fraction=0.5)
    folder = RunFolder.of(settings)
    folder.path.mkdir(parents=True)
    shared, runs = Shared(prepare_once(settings, folder)), []
    for number, (fraction, rate) in enumerate(((0.5, 1e-3), (1, 1e-2), (0.5, 1e-2))):
        own = settings.model_copy(update={"run_name": f"s-{number}", "train_fraction": fraction, "learning_rate": rate})
        train(own, shared)
        runs.append(TriedRun(number, own, RunFolder.of(own), {}, "complete", 1.0, "", 1.0, 1.0))
    return runs, shared


def test_it_goes_through_the_best_run_of_each_share_and_is_measured_once(ranked, monkeypatch):
    (runs, shared), study = ranked, optuna.create_study()
    curve = find_learning_curve(runs, study, shared)
    assert curve.rows == (16, 32)
    for run, loss in zip(runs[:2], curve.losses, strict=True):
        assert json.loads(run.folder.status.read_text())["state"] == "trained"
        context = prepare_run(run.settings, run.folder, shared)
        rows = list(context.prepared.test)
        assert len(rows) == 4
        expected = measure_losses(load_trained_model(context), context.tokenizer, rows, context.scoring.decoding)
        assert loss == pytest.approx(np.mean(expected), rel=1e-6)
    monkeypatch.setattr(sweep_learning, "measure_losses", lambda *_: pytest.fail("it was measured again"))
    assert find_learning_curve(runs, study, shared) == curve


def test_one_share_makes_no_curve(ranked):
    runs, shared = ranked
    assert find_learning_curve([runs[0], runs[2]], optuna.create_study(), shared) is None
