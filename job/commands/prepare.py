"""The command `prepare`: data read, split and tokenised, without a GPU."""

import logging

from job.config.identity import identity
from job.config.settings import Settings
from job.pipeline.claim import claimed_run
from job.pipeline.prepare import prepare_run

log = logging.getLogger(__name__)


def prepare(settings: Settings) -> None:
    """Reads, splits and tokenises the data; needs no GPU. A finished run is left as it is."""
    with claimed_run(settings, identity(settings), settings.overwrite) as folder:
        if not folder.is_done:
            prepare_run(settings, folder)
        log.info("prepared data: %s", folder.data)
