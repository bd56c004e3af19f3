"""The command `train`: an adapter, without its evaluation."""

import logging

from job.config.identity import identity
from job.config.settings import Settings
from job.pipeline import train as step
from job.pipeline.claim import claimed_run, drop_damaged_adapter
from job.pipeline.prepare import prepare_run
from job.pipeline.publish import export
from job.pipeline.shared import Shared
from job.pipeline.status import write_end
from job.system.ranks import this_rank

log = logging.getLogger(__name__)


def train(settings: Settings, shared: Shared | None = None) -> None:
    """Prepares and trains, unless there is an adapter already."""
    with claimed_run(settings, identity(settings), settings.overwrite) as folder:
        if this_rank().is_main:
            drop_damaged_adapter(folder)
        if not this_rank().broadcast(folder.adapter.exists()):
            step.train(prepare_run(settings, folder, shared))
        if not folder.is_done:
            write_end(folder, "trained")
        if this_rank().is_main:
            export(settings, folder)
        log.info("adapter: %s", folder.adapter)
