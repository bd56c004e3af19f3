"""The job: environment -> Settings -> Hardware -> prepared data -> Plan -> model + LoRA -> training -> evaluation -> artefacts.

One function a command of `entrypoint.py`; what each step does is in `steps`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel

from job.commands.compare import compare_runs
from job.commands.doctor import examine
from job.commands.merge import merge_model
from job.commands.predict import answer_file, find_adapter
from job.config import configs
from job.config.settings import Settings
from job.errors import DiskFull, Interrupted, JobError
from job.evaluation.evaluate import write_csv
from job.evaluation.verdict import read_verdict
from job.model.load import load_adapter
from job.pipeline import steps
from job.pipeline.fit import fit
from job.pipeline.proof import expect, prove
from job.pipeline.results import publish, push
from job.pipeline.run_folder import RunFolder
from job.system.durable import is_disk_full
from job.system.lock import locked

__all__ = ["compare", "doctor", "evaluate", "merge", "plan", "predict", "prepare", "run", "train"]

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """The whole way. What is done already is not done again; a finished run is left as it is."""
    with _claimed(settings, configs.identity(settings)) as folder:
        if not folder.is_done:
            job = steps.prepare(settings, folder)
            _train_and_evaluate(job)
            prove(job)
            publish(job)
        else:
            log.info("%s was finished before: nothing was done again. OVERWRITE=true starts it anew", folder.path)
            push(settings, folder)
        _say_done(settings, folder)


def plan(settings: Settings, *options: str) -> None:
    """Prints what training would take on each kind of GPU; needs no GPU and no weights, and leaves nothing behind."""
    print(steps.plan(settings, as_json="--json" in options))


def doctor(settings: Settings) -> None:
    """Checks what a run with these settings needs, and prints what it found."""
    examine(settings)


def compare(settings: Settings, *names: str) -> None:
    """Prints which settings of these runs differ, and their scores; makes a page of it."""
    with _disk_full_told(settings.output_dir):
        print(compare_runs(settings.output_dir, names))


def merge(settings: Settings) -> None:
    """Writes base and adapter as one model, and compares it with the adapter."""
    with _disk_full_told(settings.output_dir):
        merge_model(settings)


def predict(settings: Settings, location: str, output: str | None = None) -> None:
    """Answers the rows of a file with the trained adapter."""
    with _disk_full_told(settings.output_dir):
        answer_file(settings, location, output)


def prepare(settings: Settings) -> None:
    """Reads, splits and tokenises the data; needs no GPU."""
    with _claimed(settings, configs.identity(settings)) as folder:
        steps.prepare(settings, folder)
        log.info("prepared data: %s", folder.data)


def train(settings: Settings) -> None:
    """Prepares and trains."""
    with _claimed(settings, configs.identity(settings)) as folder:
        if not folder.adapter.exists():
            fit(steps.prepare(settings, folder))
        log.info("adapter: %s", folder.adapter)


def evaluate(settings: Settings) -> None:
    """Measures the adapter that is there, once more if it was measured before; the evaluation's settings may be new."""
    find_adapter(settings)
    with _claimed(settings.model_copy(update={"overwrite": False}), configs.training_identity(settings)) as folder:
        job = steps.prepare(settings, folder)
        _evaluate(job, load_adapter(steps.load_base_model(job), folder.adapter))
        prove(job)
        publish(job)
        _say_done(job.settings, folder)


def _train_and_evaluate(job: steps.Job) -> None:
    """What is not there yet of adapter and evaluation; the model leaves the memory with it."""
    folder = job.folder
    model = None if folder.adapter.exists() else fit(job)
    if not (folder.evaluation.exists() and folder.proof.exists()):
        _evaluate(job, model or load_adapter(steps.load_base_model(job), folder.adapter))


def _evaluate(job: steps.Job, model: PeftModel) -> None:
    """Puts a new evaluation in the place of the last one, with its settings; a failure leaves the last one as it is."""
    evaluation = steps.evaluate(job, model)
    job.folder.evaluation.unlink(missing_ok=True)
    job.folder.keep(configs.identity(job.settings))
    expect(job, model, evaluation.adapter_outputs)
    write_csv(evaluation, job.folder.evaluation)


@contextmanager
def _claimed(settings: Settings, identity: dict[str, object]) -> Iterator[RunFolder]:
    """The run's folder, claimed for settings of this `identity`; status.json tells what went wrong inside."""
    folder = RunFolder(settings.output_dir, settings.logs_dir, configs.run_name(settings))
    with locked(folder.path):
        if settings.overwrite:
            folder.clear()
        folder.claim(configs.of_training(identity) if folder.is_done else identity)
        try:
            yield folder
        except KeyboardInterrupt as stop:
            folder.tell_failure(Interrupted(str(stop)))
            raise
        except Exception as error:
            told = _disk_full(error, folder.path) or error
            folder.tell_failure(told)
            raise told from error


@contextmanager
def _disk_full_told(folder: Path) -> Iterator[None]:
    """Raises DiskFull where what happens inside fails for want of space."""
    try:
        yield
    except Exception as error:
        if full := _disk_full(error, folder):
            raise full from error
        raise


def _disk_full(error: Exception, folder: Path) -> DiskFull | None:
    """What `error` means where it comes from a full disk."""
    if isinstance(error, JobError) or not is_disk_full(error, folder):
        return None
    return DiskFull(f"OUTPUT_DIR or LOGS_DIR: no space left for {folder}. Free some and run the same command again.")


def _say_done(settings: Settings, folder: RunFolder) -> None:
    log.info("verdict: %s", read_verdict(folder.evaluation))
    log.info("adapter: %s", folder.adapter)
    log.info("outputs side by side: %s", folder.evaluation)
    log.info("report: %s", folder.report)
    if "tensorboard" in settings.report_to:
        log.info("curves: %s, in TensorBoard (docker compose up, or make tensorboard)", folder.logs)
