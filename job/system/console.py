"""What goes to the terminal: our lines, and of the libraries' only what a person can act on."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import TextIO

log = logging.getLogger("job")

OWN_LM_HEAD = "both are present in the checkpoints with different values"
"""transformers 5 wonders at every FLAN-T5, which has an lm_head of its own and keeps it."""


def configure(level: str) -> None:
    """Sets the logging of the whole process; called before the libraries are imported."""
    rank = os.environ.get("RANK", "0")
    form = "%(asctime)s %(message)s" if rank == "0" else f"%(asctime)s rank {rank}: %(message)s"
    logging.basicConfig(format=form, datefmt="%H:%M:%S", stream=sys.stderr, level=logging.WARNING)
    log.setLevel(level.upper() if rank == "0" or level == "debug" else "WARNING")  # rank 0 speaks for all
    logging.getLogger("transformers.modeling_utils").addFilter(_is_news)
    logging.getLogger("huggingface_hub").propagate = False  # it prints its retries by itself
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses a package of fast kernels at every start on some CPUs
    warnings.filterwarnings("ignore", category=FutureWarning)  # peft 0.21 reads names that transformers 5.23 deprecates
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else a warning a fork; they are parallel by themselves
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def tabulate(rows: Sequence[Sequence[str]]) -> str:
    """`rows` of cells as lines whose columns are aligned; the last cell of a line is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def takes_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal whose user has not said no to colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_lines(lines: Iterable[str]) -> None:
    """Prints `lines`; a character that the terminal's encoding lacks is a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding), flush=True)


def _is_news(record: logging.LogRecord) -> bool:
    return OWN_LM_HEAD not in record.getMessage()
