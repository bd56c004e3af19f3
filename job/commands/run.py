"""The command `run`: the whole way, from the environment to an evaluated adapter.

environment -> Settings -> Hardware -> prepared data -> plan -> model + LoRA -> training -> evaluation -> artefacts.
"""

import logging
from functools import partial

from job.config.identity import identity
from job.config.settings import Settings
from job.pipeline.claim import claimed_run, drop_damaged_adapter
from job.pipeline.context import RunContext
from job.pipeline.evaluate import evaluate, is_evaluated, verdict_of
from job.pipeline.prepare import check_same_rows, load_trained_model, prepare_run
from job.pipeline.publish import hand_over, publish
from job.pipeline.run_folder import RunFolder
from job.pipeline.shared import Shared
from job.pipeline.train import train
from job.pipeline.verify import verify
from job.system.ranks import this_rank

log = logging.getLogger(__name__)


def run(settings: Settings, shared: Shared | None = None) -> None:
    """Does what is not done yet of a run; a finished one is left as it is."""
    with claimed_run(settings, identity(settings), settings.overwrite, partial(check_same_rows, settings)) as folder:
        ranks = this_rank()
        if ranks.is_main:
            drop_damaged_adapter(folder)
        if not ranks.broadcast(folder.is_done):
            context = prepare_run(settings, folder, shared)
            _train_and_evaluate(context)
            if ranks.is_main:
                verify(context)
                publish(context)
        elif ranks.is_main:
            log.info("%s is finished: nothing to do. OVERWRITE=true starts it again", folder.path)
            hand_over(settings, folder)
        if ranks.is_main:
            report_done(settings, folder)
        ranks.broadcast(None)  # until rank 0 is done: an engine would not start again, for its sake, a machine that succeeded


def _train_and_evaluate(context: RunContext) -> None:
    """What is not there yet of adapter and evaluation; the model leaves the memory with it."""
    ranks = context.ranks
    model = None if ranks.broadcast(context.folder.adapter.exists()) else train(context)
    if not ranks.broadcast(is_evaluated(context)):
        evaluate(context, model or load_trained_model(context))


def report_done(settings: Settings, folder: RunFolder) -> None:
    """Logs the verdict, and where everything is."""
    log.info("verdict: %s", verdict_of(folder))
    log.info("adapter: %s", folder.adapter)
    log.info("outputs side by side: %s", folder.evaluation)
    log.info("report: %s", folder.report)
    if "tensorboard" in settings.report_to:
        log.info("curves: %s, in TensorBoard (docker compose up, or make tensorboard)", folder.logs)
