"""The command `sweep`: runs that differ in what SWEEP names, the best of them evaluated on rows that none was chosen by."""

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import optuna

from job.commands.run import run
from job.commands.train import train
from job.config.identity import hparams
from job.config.search_space import OF_THE_ADAPTER, combinations, read_axes, values_of
from job.config.settings import Settings
from job.errors import Diverged, JobError, OutOfMemory, SettingsError
from job.model.lora import LoraRefused
from job.pipeline.claim import claimed_run, join_ranks
from job.pipeline.evaluate import verdict_of
from job.pipeline.prepare import prepare_once
from job.pipeline.records import AdapterRecord, StatusRecord
from job.pipeline.run_folder import RunFolder
from job.pipeline.shared import Shared
from job.pipeline.status import write_progress, write_stage, write_status
from job.pipeline.sweep_learning import find_learning_curve
from job.pipeline.sweep_report import Found, write_sweep_page
from job.pipeline.sweep_study import (
    complete,
    enqueue_missing,
    finish_trial,
    is_hopeless,
    next_trial,
    open_study,
    running_s,
    suggest,
)
from job.pipeline.sweep_trials import (
    TriedRun,
    budget_s,
    check_targets,
    hourly_price,
    is_maximised,
    longest_trial_s,
    measure_of,
    measurements,
    outcome,
    sweep_identity,
    sweep_settings,
    trial_settings,
    tried_run,
)
from job.system.launcher import launch, launched_for, process_count
from job.system.lock import waiting_for
from job.system.ranks import this_rank
from job.training.curves import write_final_scores

log = logging.getLogger(__name__)

STAGE = "sweep"
"""Of status.json."""
BEGUN_AS = "content"
"""Attribute of a study: fingerprints of base model and rows."""
FAILURES = (Diverged, OutOfMemory, SettingsError)
"""What a trial may fail with while the others go on."""


def sweep(settings: Settings) -> None:
    """Tries what SWEEP names, a trial a GPU at a time, until SWEEP_TRIALS or the budget is reached; then evaluates the best."""
    if this_rank().world_size > 1 or settings.nnodes > 1:
        raise SettingsError(
            "sweep: a trial is one process. Start it without torchrun and NNODES: it takes all GPUs of one machine."
        )
    job = Sweep(settings)
    if launched_for():
        job.work()
        return
    with claimed_run(job.settings, sweep_identity(job.settings, job.axes), settings.overwrite) as folder:
        write_stage(folder, STAGE)
        log.info("sweep: %s; the study is in %s", settings.sweep, folder.path)
        if job.processes > 1:
            log.info("sweep: %d trials at a time; the study has %d", job.processes, len(job.study.trials))
            launch([sys.executable, str(Path(sys.argv[0]).resolve()), "sweep"], job.processes, settings.grace_s, node=None)
        else:
            job.work()
        job.finish()


class Sweep:
    """The state of one process of a sweep."""

    def __init__(self, settings: Settings) -> None:
        """settings: as a person set them."""
        self.axes, self.settings, self.asked = read_axes(settings), sweep_settings(settings), settings
        self.folder = RunFolder.of(self.settings)
        self.session = launched_for() or uuid.uuid4().hex
        self.fractions = any(axis.name == "train_fraction" for axis in self.axes)
        """Whether the number of rows is tried: then no trial is given up for having fewer."""
        all_of_them = combinations(self.axes)
        self.combinations = all_of_them if len(all_of_them) <= settings.sweep_trials else []
        """All that there are, where they are no more than SWEEP_TRIALS."""
        launched = int(os.environ["LOCAL_WORLD_SIZE"]) if launched_for() else 0
        self.processes = launched or max(1, process_count(settings.nproc_per_node, settings.device))
        """That have a trial each, on a GPU each."""

    @cached_property
    def study(self) -> optuna.Study:
        """Where all combinations can be tried, they are; else what a person has set is tried first."""
        asked, identity = values_of(self.settings, self.axes), sweep_identity(self.settings, self.axes)
        starts = [asked] if asked and not self.combinations else []
        study = open_study(self.folder.path / "study.db", identity, is_maximised(self.settings), starts)
        if not launched_for():
            enqueue_missing(study, self.combinations)  # also where SWEEP_TRIALS was too small for all of them
        return study

    @cached_property
    def shared(self) -> Shared:
        """Base model and rows, for all trials of this process. Raises SettingsError where they are not those of earlier trials."""
        join_ranks(this_rank(), self.settings)  # else all processes would check the first GPU
        with waiting_for(self.folder.path / "study.lock"):
            preparation = prepare_once(self.settings, self.folder)
            check_targets(self.settings, self.axes, preparation.config)
            begun = self.study.user_attrs.get(BEGUN_AS)
            if begun not in (None, preparation.content):
                raise SettingsError(
                    f"{self.folder.path}: base model or rows changed since this sweep was begun. Bring them back, choose another "
                    "RUN_NAME, or set OVERWRITE=true."
                )
            self.study.set_user_attr(BEGUN_AS, preparation.content)
        return Shared(preparation)

    def work(self) -> None:
        """Takes trials until none is left."""
        while True:
            most = self._most()
            with waiting_for(self.folder.path / "study.lock"):
                found = next_trial(self.study, self.axes, self.session, most, self.settings.seed)
            if found is None:
                return
            trial, is_new = found
            ended = [one for one in self.study.get_trials(deepcopy=False) if one.state.is_finished()]
            write_progress(self.folder, STAGE, computing="trials", rows=len(ended), total_rows=most)
            self._try(trial, is_new)

    def runs(self) -> list[TriedRun]:
        """All trials so far, as runs."""
        trials = self.study.get_trials(deepcopy=False)
        return [tried_run(self.settings, self.axes, trial) for trial in trials if trial.params]

    def finish(self) -> None:
        """Evaluates the best trial as a run, and writes the page. Raises what trials failed with where none was trained."""
        runs = self.runs()
        ranked = [next(one for one in runs if one.number == trial.number) for trial in complete(self.study)]
        if not ranked:
            _raise_failure(runs)
        best = ranked[0]
        log.info("sweep: the best of %d trials is %s, %s", len(runs), best.folder.name, _shown(best.values))
        curve = find_learning_curve(ranked, self.study, self.shared) if self.fractions else None
        run(best.settings.model_copy(update={"overwrite": False}), self.shared)  # it goes on with what the trial left
        verdict = verdict_of(best.folder)
        found = Found(verdict, curve, self._price, self.processes)
        page = write_sweep_page(self.folder, self.settings, self.study, self.runs(), found)
        if curve:
            log.info("%s", curve)
        done = StatusRecord("done", adapter=str(best.folder.adapter), verdict=verdict.word, summary=str(verdict))
        write_status(self.folder, done)
        log.info("sweep: %s", page)

    @property
    def _price(self) -> float | None:
        """Of this machine, USD an hour."""
        return hourly_price(self.settings, self.shared.preparation.hardware, self.processes)

    def _most(self) -> int:
        """Trials that may be begun: as many as asked for, and no more once the next might not end within the budget."""
        runs, wanted = self.runs(), self.settings.sweep_trials
        if self.combinations:  # of which some may have been tried twice, while SWEEP_TRIALS was smaller
            wanted = max(len(self.combinations), len(self.study.get_trials(deepcopy=False)))
        allowed_s = budget_s(self.settings, self._price)
        spent_s = sum(one.seconds for one in runs) + running_s(self.study, self.session, time.time())
        rows = len(self.shared.preparation.prepared.train)
        if spent_s / self.processes + longest_trial_s(self.settings, self.axes, runs, rows) <= allowed_s:
            return wanted
        log.info("sweep: the budget ends after %d trials of %d", len(runs), wanted)
        return len(runs)

    def _try(self, trial: optuna.Trial, is_new: bool) -> None:
        """Trains one trial, and tells the study what it came to."""
        values = suggest(trial, self.axes)
        try:
            settings = trial_settings(self.settings, trial.number, values)
        except SettingsError as error:
            self._fail(trial, error)
            return
        settings = settings.model_copy(update={"overwrite": self.asked.overwrite and is_new, "export_dir": None})
        folder, name = RunFolder.of(settings), measure_of(settings)
        log.info("%s: %s", folder.name, _shown(values))

        def gives_up(history: Sequence[dict[str, float]]) -> bool:
            return is_hopeless(trial, measurements(settings, history)) and not self.fractions

        try:
            train(settings, replace(self.shared, gives_up=gives_up))
        except (Diverged, OutOfMemory, LoraRefused) as error:
            if isinstance(error, LoraRefused) and not any(axis.name in OF_THE_ADAPTER for axis in self.axes):
                raise  # it would be that of each trial
            self._fail(trial, error)
            return
        value, record = outcome(settings, folder), AdapterRecord.read(folder.adapter_record)
        if record.steps < record.total_steps and gives_up(json.loads(folder.history.read_text())):
            log.info("%s: given up at step %d of %d, worse than the median", folder.name, record.steps, record.total_steps)
            finish_trial(self.study, trial, None)
        else:
            log.info("%s: %s %s", folder.name, name, value)
            finish_trial(self.study, trial, value)
        if value is not None and "tensorboard" in settings.report_to:
            write_final_scores(folder.logs, hparams(settings) | values, {name: value}, record.steps, group="sweep")

    def _fail(self, trial: optuna.Trial, error: JobError) -> None:
        """Tells the study what a trial failed with."""
        log.warning("%s-%02d: %s", self.folder.name, trial.number, error)
        kind = next(kind for kind in FAILURES if isinstance(error, kind))
        finish_trial(self.study, trial, None, f"{kind.__name__}: {error}")


def _shown(values: Mapping[str, object]) -> str:
    return " ".join(f"{name.upper()}={value}" for name, value in values.items())


def _raise_failure(runs: Sequence[TriedRun]) -> NoReturn:
    """Raises what the trials failed with, where none came to its end."""
    first = next((run for run in runs if run.error), None)
    if first is None:
        raise SettingsError("sweep: no trial was trained to its end. Raise SWEEP_TRIALS, SWEEP_HOURS or SWEEP_USD.")
    kind = next(kind for kind in FAILURES if first.error.startswith(kind.__name__))
    raise kind(f"sweep: none of {len(runs)} trials came to its end. {first.folder.name}: {first.error}")
