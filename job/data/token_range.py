"""Whether the model has an embedding for every token that occurs, without making lists of rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from job.data.token_lengths import ROWS_AT_ONCE
from job.errors import DataError
from job.labels import IGNORED


def check_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase, embeddings: int | None, source: object) -> None:
    """Raises DataError for the first of these rows with a token that the model has no embedding for.

    rows: columns of lists `input_ids` and `labels`, and the rows' names in `row` where they have some. source: where they are
    from. embeddings: how many there are; None where that is not known.
    """
    if embeddings is None:
        return
    for column in ("input_ids", "labels"):
        batches = rows.select_columns([column]).with_format("arrow").iter(batch_size=ROWS_AT_ONCE)
        for number, batch in enumerate(batches):
            lists = batch[column].combine_chunks()
            ids = np.asarray(lists.flatten())
            wrong = np.flatnonzero((ids >= embeddings) | (ids < 0) & (ids != IGNORED))
            if not wrong.size:
                continue
            place = number * ROWS_AT_ONCE + pc.list_parent_indices(lists)[int(wrong[0])].as_py()
            name = rows[place]["row"] if "row" in rows.column_names else f"row {place + 1}"
            raise DataError(_message(f"{source}: {name}", tokenizer, int(ids[wrong[0]]), embeddings))


def check_prompts(
    prompts: Sequence[Sequence[int]], names: Sequence[str], tokenizer: PreTrainedTokenizerBase, embeddings: int | None
) -> None:
    """The same of prompts that are lists of ids. names: what a person calls their rows."""
    for name, prompt in zip(names, prompts, strict=True):
        if embeddings is not None and prompt and max(prompt) >= embeddings:
            raise DataError(_message(name, tokenizer, max(prompt), embeddings))


def _message(where: str, tokenizer: PreTrainedTokenizerBase, token: int, embeddings: int) -> str:
    text = tokenizer.convert_ids_to_tokens(token) if 0 <= token < len(tokenizer) else None
    named = f'"{text}" is token {token}' if text else f"token {token} is unknown to the tokenizer"
    return (
        f"{where}: {named}, and the model has {embeddings} embeddings, for tokens 0 to {embeddings - 1}. "
        "Take it out of the row, or save the model's own tokenizer beside it."
    )
