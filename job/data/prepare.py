"""Spreadsheet -> tokenised training and held-out rows on disk, made once for the same content."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset

from job.data.added_tokens import add_tokens, tokenise_adding
from job.data.adopt import adopt, is_tokenised
from job.data.chat_content import warn_of_changes
from job.data.chat_rows import chats_of, question_of, shared_opening
from job.data.cut import cut, list_cut_rows
from job.data.data_config import DataConfig, ModelSpec, contents_of, fingerprint_of
from job.data.lengths import check_truncation, choose_lengths, measure_truncation
from job.data.look import TableFacts
from job.data.make_look import count_chats, describe_table, make_look
from job.data.prepared import PreparedData, load_prepared, read_prepared, save_prepared
from job.data.row_counts import hash_normalised
from job.data.rows import shape_of, to_examples
from job.data.shapes import Shape
from job.data.split import check_overlap, digest_keys, own_held_out, split_rows
from job.data.token_lengths import ROWS_AT_ONCE, answer_lengths, token_lengths
from job.data.token_range import check_rows
from job.data.tokenise import Encoding, assemble
from job.errors import DataError, SettingsError
from job.labels import end_tokens
from job.system.seal import sha256
from job.tables.read import read_table
from job.tables.table import Table

log = logging.getLogger(__name__)

CUT_ROWS = "truncated.csv"


def prepare(config: DataConfig, model: ModelSpec, folder: Path, expected: str | None = None) -> PreparedData:
    """The prepared data in `folder`, made if it is not there yet for this very content. Raises DataError and its like.

    expected: the fingerprint that a run was begun with. Raises SettingsError if the content has another, and leaves `folder` alone.
    """
    train, evaluation, shape, config = _read(config)
    contents = contents_of((train, evaluation))
    fingerprint = fingerprint_of(config, model, contents)
    if expected not in (None, fingerprint):
        raise SettingsError(
            f"TRAIN_DATA={config.train.location}: the rows, or how they are read, changed since this run was begun. Bring them "
            "back, choose another RUN_NAME, or set OVERWRITE=true."
        )
    work = folder.with_name(f"{folder.name}.work")
    shutil.rmtree(work, ignore_errors=True)  # of a preparation that was stopped
    if (found := load_prepared(folder)) and found.fingerprint == fingerprint:
        found.unknown.check(config.max_unknown_targets, config.add_tokens)
        return found
    work.mkdir(parents=True)
    try:
        if shape is None:
            prepared = adopt(train, evaluation, config, model)
        else:
            prepared = _tokenise_and_cut((train, evaluation), shape, config, model, work)
        prepared = replace(
            prepared,
            fingerprint=fingerprint,
            rows=contents,
            columns=config.columns.without_auto(),
            preprocess_sha256=sha256(config.preprocess_file) if config.preprocess_file else None,
        )
        save_prepared(prepared, folder, work / CUT_ROWS)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_prepared(folder)


def has_other_rows(config: DataConfig, folder: Path) -> bool:
    """Whether the tables hold other rows now than those that `folder` was prepared from; False where that is not known."""
    prepared = load_prepared(folder)
    if prepared is None or not prepared.rows:
        return False
    train, evaluation, *_ = _read(config)
    return prepared.rows != contents_of((train, evaluation))


def _read(config: DataConfig) -> tuple[Table, Table | None, Shape | None, DataConfig]:
    """The tables of training and held-out rows, the shape of the first if it is no tokens, and `config` with its columns."""
    train = read_table(config.train)
    _tell(train)
    shape = None
    if not is_tokenised(train):
        shape = shape_of(train, config.columns)
        log.info("%s: %s", train.source, shape.describe())
        config = replace(config, columns=shape.columns)
    return train, _read_held_out(config, train), shape, config


def _read_held_out(config: DataConfig, train: Table) -> Table | None:
    """The table of the held-out rows: EVAL_DATA, or what `train` holds apart; None where a share of `train` is held out."""
    if config.evaluation:
        held_out: Table | None = read_table(config.evaluation)
    else:
        held_out = own_held_out(train, config.columns.target) if config.own_held_out else None
    if held_out:
        _tell(held_out)
    return held_out


def _tokenise_and_cut(
    read: tuple[Table, Table | None], shape: Shape, config: DataConfig, model: ModelSpec, work: Path
) -> PreparedData:
    """read: the tables of training and held-out rows. shape: of the first.

    work: folder of what is between the steps, on disk so that rows of any number take the same memory.
    """
    examples, held_out, tables = _examples(*read, config, work)
    ends = tuple(end_tokens(model.answering.eos_token_id))
    encoding = Encoding(model.tokenizer, model.seq2seq, model.answering.decoder_start_token_id, ends=ends)
    tokenised, unknown = tokenise_adding((examples, held_out), encoding, config.add_tokens, config.num_proc, work)
    unknown.check(config.max_unknown_targets, config.add_tokens)
    if chat := "messages" in examples.column_names:
        warn_of_changes(chain(chats_of(examples), chats_of(held_out)), model.tokenizer)
    layout = "seq2seq" if model.seq2seq else "chat" if chat else "causal"
    sources, targets = ([token_lengths(part, column) for part in tokenised] for column in ("source_ids", "target_ids"))
    limits = replace(model.limits, shared=layout == "causal")
    wanted = (config.max_lengths[0],) * 2 if chat else config.max_lengths
    longest = choose_lengths((sources[0], sources[1]), (targets[0], targets[1]), wanted, limits)
    for name, source, target in zip(("training rows", "held-out rows"), sources, targets, strict=True):
        check_truncation(measure_truncation(source, target, longest), config.max_truncated_targets, config.too_long, name)
    eos = model.tokenizer.eos_token_id
    assembled = [assemble(part, longest, eos, layout, work / f"assembled-{i}.arrow") for i, part in enumerate(tokenised)]
    for part, table in zip(assembled, tables, strict=True):
        check_rows(part, model.tokenizer, model.embeddings, table.source)
    kept = [cut(*part, longest=longest, too_long=config.too_long) for part in zip(tokenised, assembled, strict=True)]
    (train_rows, train_truncation), (eval_rows, eval_truncation) = kept
    list_cut_rows(work / CUT_ROWS, dict(zip(("train", "eval"), tokenised, strict=True)), longest)
    _check_left((train_rows, eval_rows), tables)
    if chat:  # whose input and answers are one sequence, of which the answers are a part
        targets[0] = answer_lengths(assembled[0])
    opening, counts = _opening(examples) if chat else None, (_counted(sources[0]), _counted(targets[0]))
    tokenizer = add_tokens(model.tokenizer, unknown.added)
    questions = [(part, hash_normalised(_keys(part), len(part))) for part in (examples, held_out)]
    chats = count_chats(chain(chats_of(examples), chats_of(held_out))) if chat else None
    facts = _facts(read, (examples, held_out), shape)
    look = make_look((train_rows, eval_rows), model.seq2seq, tokenizer, facts, (questions[0], questions[1]), chats)
    return PreparedData(train_rows, eval_rows, train_truncation, eval_truncation, "", chat, *counts, opening, unknown, look=look)


def _check_left(parts: tuple[Dataset, Dataset], tables: tuple[Table, Table]) -> None:
    """Raises DataError where the cut has left no row of a part."""
    for rows, table in zip(parts, tables, strict=True):
        if len(rows) == 0:
            raise DataError(f"{table.source}: no row is left after the cut. Raise MAX_SOURCE_LENGTH and MAX_TARGET_LENGTH.")


def _opening(examples: Dataset) -> dict | None:
    """What all chats begin with; None where they begin differently."""
    shared = shared_opening(chats_of(examples))
    return {"messages": shared.messages, "tools": shared.tools} if shared else None


def _counted(lengths: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(lengths, return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def _examples(
    train: Table, evaluation: Table | None, config: DataConfig, work: Path
) -> tuple[Dataset, Dataset, tuple[Table, Table]]:
    """Training examples, held-out examples, the tables they come from; each with its row's name in `row`."""
    examples = to_examples(train, config.columns, work / "train.arrow")
    digests = digest_keys(_keys(examples), config.seed)
    if evaluation is None:
        training, held_out = split_rows(digests, config.eval_fraction, train)
        return examples.select(training), examples.select(held_out), (train, train)
    held_out = to_examples(evaluation, config.columns, work / "eval.arrow")
    check_overlap(digests, digest_keys(_keys(held_out), config.seed), train, evaluation)
    return examples, held_out, (train, evaluation)


def _facts(read: tuple[Table, Table | None], examples: tuple[Dataset, Dataset], shape: Shape) -> list[TableFacts]:
    """What became of each table."""
    train, evaluation = read
    if evaluation is None:
        return [describe_table(train, examples, shape)]
    other = replace(shape_of(evaluation, shape.columns), kind=shape.kind)
    return [describe_table(train, examples[:1], shape), describe_table(evaluation, examples[1:], other)]


def _keys(examples: Dataset) -> Iterator[str]:
    """What makes two rows the same question: the prompt, or all of a chat but its last answer."""
    column = "prompt" if "prompt" in examples.column_names else "messages"
    for batch in examples.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
        yield from batch[column] if column == "prompt" else map(question_of, batch[column])


def _tell(table: Table) -> None:
    for note in table.notes:
        log.info("%s: %s", table.source, note)
