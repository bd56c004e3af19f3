"""A table to answer: read, what can fail in giving it back tried before the first answer, and given back with the answers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

from job.data.answers import AnswerFile
from job.data.token_range import check_prompts
from job.data.tokenise import cut_source
from job.evaluation.generate import Ids
from job.model.load import embeddings
from job.pipeline.trained_adapter import TrainedAdapter
from job.tables.destination import Destination
from job.tables.give_back import Columns, give_back, rehearse
from job.tables.read import read_table
from job.tables.table import Source, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskedTable:
    """A table, and the prompts of its rows."""

    table: Table
    rows: list[int]
    """Indices of those that have an input."""
    prompts: list[Ids]
    """Theirs, as long as the adapter reads them."""
    columns: tuple[str, ...]
    """Names of the columns that are added."""
    destination: Destination

    def give_back(self, answers: AnswerFile) -> None:
        """Writes the table with the answers to all rows where it belongs, and takes the file of the answers away."""
        cells = [(None,) * len(self.columns)] * len(self.table.rows)
        for number, row in enumerate(self.rows):
            cells[row] = tuple(answers.known[number].values())
        self.destination.check_unchanged(answers.path)
        give_back(self.destination, self.table, Columns(self.columns, cells))
        answers.discard()


def read_asked(adapter: TrainedAdapter, source: Source, wanted: Destination, columns: Sequence[str]) -> AskedTable:
    """The table of `source`, which comes back at `wanted` with `columns` more. What a person should know of it is logged."""
    table = read_table(source)
    for note in table.notes:
        log.info("%s", note)
    names = _free_names(columns, table)
    rows, prompts = adapter.prompts(table)
    destination = rehearse(wanted, table, names)
    prompts = _shorten(prompts, adapter)
    check_prompts(prompts, [f"{source}: {table.row_name(row)}" for row in rows], adapter.tokenizer, embeddings(adapter.config))
    return AskedTable(table, rows, prompts, names, destination)


def _free_names(names: Sequence[str], table: Table) -> tuple[str, ...]:
    """`names`, each with a number where a person's own column is called so."""
    own = set(table.rows.column_names)
    numbered = (chain([name], (f"{name}_{number}" for number in count(2))) for name in names)
    return tuple(next(free for free in candidates if free not in own) for candidates in numbered)


def _shorten(prompts: list[Ids], adapter: TrainedAdapter) -> list[Ids]:
    """`prompts`, none longer than the adapter reads; a warning says how many were."""
    limit = adapter.limit
    if limit is None or not (longer := sum(len(prompt) > limit for prompt in prompts)):
        return prompts
    log.warning("%d of %d inputs are longer than %d tokens and are truncated, as in training", longer, len(prompts), limit)
    return [cut_source(prompt, limit, adapter.tokenizer.eos_token_id) for prompt in prompts]
