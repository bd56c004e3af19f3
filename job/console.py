"""What goes to the terminal: our lines, and of the libraries' only what a person can act on."""

import logging
import os
import sys
import warnings

log = logging.getLogger("job")


def configure(level: str) -> None:
    """Sets the logging of the whole process; called before the libraries are imported."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr, level=logging.WARNING)
    log.setLevel(level.upper())
    warnings.filterwarnings("ignore", category=FutureWarning)  # peft 0.21 reads names that transformers 5.23 deprecates
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else a warning a fork; they are parallel by themselves
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
