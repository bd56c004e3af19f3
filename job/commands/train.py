"""The command `train`: an adapter, without its evaluation."""

import logging

from job.config.identity import identity
from job.config.settings import Settings
from job.pipeline import train as step
from job.pipeline.claim import claimed_run
from job.pipeline.prepare import prepare_run
from job.system.ranks import this_rank

log = logging.getLogger(__name__)


def train(settings: Settings) -> None:
    """Prepares and trains, unless there is an adapter already."""
    with claimed_run(settings, identity(settings), settings.overwrite) as folder:
        if not this_rank().broadcast(folder.adapter.exists()):
            step.train(prepare_run(settings, folder))
        log.info("adapter: %s", folder.adapter)
