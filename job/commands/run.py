"""The command `run`: the whole way, from the environment to an evaluated adapter.

environment -> Settings -> Hardware -> prepared data -> plan -> model + LoRA -> training -> evaluation -> artefacts.
"""

import logging

from job.config.identity import identity
from job.config.settings import Settings
from job.pipeline.claim import claimed_run
from job.pipeline.context import RunContext
from job.pipeline.evaluate import evaluate, verdict_of
from job.pipeline.prepare import load_trained_model, prepare_run
from job.pipeline.publish import publish, upload_once
from job.pipeline.run_folder import RunFolder
from job.pipeline.train import train
from job.pipeline.verify import verify
from job.system.ranks import this_rank

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Does what is not done yet of a run; a finished one is left as it is."""
    with claimed_run(settings, identity(settings), settings.overwrite) as folder:
        ranks = this_rank()
        if not ranks.broadcast(folder.is_done):
            context = prepare_run(settings, folder)
            _train_and_evaluate(context)
            if ranks.is_main:
                verify(context)
                publish(context)
        elif ranks.is_main:
            log.info("%s is finished: nothing to do. OVERWRITE=true starts it again", folder.path)
            upload_once(settings, folder)
        if ranks.is_main:
            report_done(settings, folder)


def _train_and_evaluate(context: RunContext) -> None:
    """What is not there yet of adapter and evaluation; the model leaves the memory with it."""
    folder, ranks = context.folder, context.ranks
    model = None if ranks.broadcast(folder.adapter.exists()) else train(context)
    if not ranks.broadcast(folder.evaluation.exists() and folder.proof.exists()):
        evaluate(context, model or load_trained_model(context))


def report_done(settings: Settings, folder: RunFolder) -> None:
    """Logs the verdict, and where everything is."""
    log.info("verdict: %s", verdict_of(folder))
    log.info("adapter: %s", folder.adapter)
    log.info("outputs side by side: %s", folder.evaluation)
    log.info("report: %s", folder.report)
    if "tensorboard" in settings.report_to:
        log.info("curves: %s, in TensorBoard (docker compose up, or make tensorboard)", folder.logs)
