"""The command `prepare`: data read, split and tokenised, without a GPU, and a look at it."""

import logging
import sys

from job.config.identity import identity
from job.config.settings import Settings
from job.data.prepared import load_prepared
from job.pipeline.claim import claimed_run
from job.pipeline.data_look import data_page
from job.pipeline.prepare import prepare_run
from job.pipeline.status import write_end
from job.publish.data_terminal import terminal_lines
from job.system.console import print_lines, takes_colour

log = logging.getLogger(__name__)


def prepare(settings: Settings) -> None:
    """Reads, splits and tokenises the data, and prints a look at it; needs no GPU. A finished run is left as it is."""
    with claimed_run(settings, identity(settings), settings.overwrite) as folder:
        prepared = (load_prepared(folder.data) if folder.is_done else None) or prepare_run(settings, folder).prepared
        log.info("prepared data: %s", folder.data)
        print_lines(terminal_lines(data_page(folder.name, prepared, settings.add_tokens), takes_colour(sys.stdout)))
        if folder.data_page.exists():
            print_lines(["", f"The same as a page: {folder.data_page}"])
        if not folder.is_done:
            write_end(folder, "trained" if folder.adapter.exists() else "prepared")
