"""The command `run`: the whole way, from the environment to an evaluated adapter.

environment -> Settings -> Hardware -> prepared data -> plan -> model + LoRA -> training -> evaluation -> artefacts.
"""

import logging

from job.config.identity import identity
from job.config.settings import Settings
from job.model.lora import load_adapter
from job.pipeline.claim import claimed_run
from job.pipeline.context import RunContext
from job.pipeline.evaluate import evaluate, verdict_of
from job.pipeline.prepare import load_base_model, prepare_run
from job.pipeline.publish import publish, upload_once
from job.pipeline.run_folder import RunFolder
from job.pipeline.train import train
from job.pipeline.verify import verify

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Does what is not done yet of a run; a finished one is left as it is."""
    with claimed_run(settings, identity(settings), settings.overwrite) as folder:
        if folder.is_done:
            log.info("%s is finished: nothing to do. OVERWRITE=true starts it again", folder.path)
            upload_once(settings, folder)
        else:
            context = prepare_run(settings, folder)
            _train_and_evaluate(context)
            verify(context)
            publish(context)
        report_done(settings, folder)


def _train_and_evaluate(context: RunContext) -> None:
    """What is not there yet of adapter and evaluation; the model leaves the memory with it."""
    folder = context.folder
    model = None if folder.adapter.exists() else train(context)
    if not (folder.evaluation.exists() and folder.proof.exists()):
        evaluate(context, model or load_adapter(load_base_model(context), folder.adapter))


def report_done(settings: Settings, folder: RunFolder) -> None:
    """Logs the verdict, and where everything is."""
    log.info("verdict: %s", verdict_of(folder))
    log.info("adapter: %s", folder.adapter)
    log.info("outputs side by side: %s", folder.evaluation)
    log.info("report: %s", folder.report)
    if "tensorboard" in settings.report_to:
        log.info("curves: %s, in TensorBoard (docker compose up, or make tensorboard)", folder.logs)
