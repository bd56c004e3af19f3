"""Rows that were tokenised elsewhere, taken as they are."""

from pathlib import Path

from datasets import Dataset

from job.data.data_config import DataConfig, ModelSpec
from job.data.lengths import Truncation
from job.data.make_look import describe_table, has_texts, make_look
from job.data.prepared import SUMMARY, PreparedData, load_prepared
from job.data.split import digest_keys, split_rows
from job.data.token_lengths import ROWS_AT_ONCE, token_lengths
from job.data.token_range import check_rows
from job.errors import DataError, SettingsError
from job.tables.table import Table


def is_tokenised(table: Table) -> bool:
    """Whether the rows of `table` are tokens already."""
    return {"input_ids", "labels"} <= set(table.rows.column_names)


def adopt(train: Table, evaluation: Table | None, config: DataConfig, model: ModelSpec) -> PreparedData:
    """Rows that were tokenised elsewhere, as they are; chats if the folder that `prepare` left them in says so."""
    train_rows, eval_rows = parts = _tokenised_parts(train, evaluation, config)
    folder = Path(config.train.location).parent
    made = load_prepared(folder)
    if made is None and (folder / SUMMARY).exists():
        raise DataError(f"{train.source}: {folder} is not as `prepare` left it. Prepare it again.")
    chat, opening = (made.chat, made.opening) if made else (False, None)
    for table in filter(None, (train, evaluation)):
        check_rows(table.rows, model.tokenizer, model.embeddings, table.source)
    look = None
    if has_texts(train_rows) and has_texts(eval_rows):
        facts = [describe_table(table) for table in (train, evaluation) if table]
        look = make_look(parts, model.seq2seq, model.tokenizer, facts)
    cut = _untruncated(train_rows), _untruncated(eval_rows)
    return PreparedData(train_rows, eval_rows, *cut, "", chat, opening=opening, look=look)


def _tokenised_parts(train: Table, evaluation: Table | None, config: DataConfig) -> tuple[Dataset, Dataset]:
    """Training and held-out rows of tables that hold tokens, with their lengths. Raises SettingsError or DataError."""
    if config.add_tokens != "none":
        raise SettingsError(f"ADD_TOKENS={config.add_tokens}: the rows of {train.source} are tokens already. Set ADD_TOKENS=none.")
    if evaluation is not None and not is_tokenised(evaluation):
        raise DataError(f"{evaluation.source}: no tokenised rows, but {train.source} has. Prepare both the same way.")
    if evaluation is None:
        keys = (str(ids) for batch in train.rows.iter(batch_size=ROWS_AT_ONCE) for ids in batch["input_ids"])
        indices = split_rows(digest_keys(keys, config.seed), config.eval_fraction, train)
        parts = [train.rows.select(side) for side in indices]
    else:
        parts = [train.rows, evaluation.rows]
    parts = [_with_length(part.remove_columns("length") if "length" in part.column_names else part) for part in parts]
    return parts[0], parts[1]


def _untruncated(rows: Dataset) -> Truncation:
    longest = int(token_lengths(rows, "input_ids").max()), int(token_lengths(rows, "labels").max())
    return Truncation(len(rows), *longest, 0, 0, 0, 0)


def _with_length(rows: Dataset) -> Dataset:
    return rows.add_column("length", (token_lengths(rows, "input_ids") + token_lengths(rows, "labels")).tolist())
