"""A sweep over TRAIN_FRACTION: what the number of training rows did to the loss of the verdict's rows."""

from collections.abc import Sequence

import numpy as np
import optuna

from job.config.identity import identity
from job.evaluation.generate import measure_losses
from job.evaluation.learning_curve import LearningCurve, fit_learning_curve
from job.pipeline.claim import claimed_run
from job.pipeline.prepare import load_trained_model, prepare_run
from job.pipeline.shared import Shared
from job.pipeline.status import write_end
from job.pipeline.sweep_trials import TriedRun

LOSSES = "losses of trial {}"
"""Attribute of a study."""


def find_learning_curve(ranked: Sequence[TriedRun], study: optuna.Study, shared: Shared) -> LearningCurve | None:
    """The curve through the best trial of each number of rows, on rows that none was chosen by; None for fewer than two.

    ranked: the complete trials, the best first.
    """
    best = {run.settings.train_fraction: run for run in reversed(ranked)}
    if len(best) < 2:
        return None
    runs = [best[fraction] for fraction in sorted(best)]
    losses = [_losses(run, study, shared) for run in runs]
    rows = len(shared.preparation.prepared.train)
    return fit_learning_curve([max(1, round(run.settings.train_fraction * rows)) for run in runs], np.array(losses))


def _losses(run: TriedRun, study: optuna.Study, shared: Shared) -> list[float]:
    """The loss of each of the verdict's rows, kept in the study."""
    name = LOSSES.format(run.number)
    if name not in study.user_attrs:
        with claimed_run(run.settings, identity(run.settings)) as folder:
            context = prepare_run(run.settings, folder, shared)
            rows = context.prepared.answered
            rows = rows.select(range(min(len(rows), run.settings.eval_max_rows)))
            found = measure_losses(load_trained_model(context), context.tokenizer, list(rows), context.scoring.decoding)
            study.set_user_attr(name, found)
            write_end(folder, "trained")
    return study.user_attrs[name]
