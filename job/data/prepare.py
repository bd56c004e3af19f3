"""Spreadsheet -> tokenised training and held-out rows on disk, made once for the same content."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerBase

from job.data.added_tokens import add_tokens, tokenise_adding
from job.data.chat_content import warn_of_changes
from job.data.chat_rows import chats_of, question_of, shared_opening
from job.data.column_mapping import ColumnMapping
from job.data.cut import cut, list_cut_rows
from job.data.lengths import LengthLimits, Truncation, check_truncation, choose_lengths, measure_truncation
from job.data.look import TableFacts
from job.data.make_look import count_chats, describe_table, has_texts, make_look
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
from job.tables.read import Source, Table, read_table

log = logging.getLogger(__name__)

CUT_ROWS = "truncated.csv"
NOT_IN_FINGERPRINT = ("train", "evaluation", "num_proc", "max_unknown_targets", "add_tokens", "own_held_out")


@dataclass(frozen=True)
class DataConfig:
    """Which rows to prepare, and how; see the variables of the same names in `settings`."""

    train: Source
    evaluation: Source | None
    columns: ColumnMapping
    eval_fraction: float
    seed: int
    max_lengths: tuple[str, str]
    """MAX_SOURCE_LENGTH and MAX_TARGET_LENGTH."""
    too_long: str
    max_truncated_targets: float
    num_proc: int
    max_unknown_targets: float = 0.01
    add_tokens: str = "none"
    own_held_out: bool = True
    """Whether rows that `train` itself holds apart are the held-out ones, where there is no `evaluation`."""


@dataclass(frozen=True)
class ModelSpec:
    """What of the model matters to its data."""

    tokenizer: PreTrainedTokenizerBase
    seq2seq: bool
    limits: LengthLimits
    answering: GenerationConfig = field(default_factory=GenerationConfig)
    """How answers begin and end."""
    embeddings: int | None = None
    """How many tokens the model has embeddings for; None where its config does not say."""


def prepare(config: DataConfig, model: ModelSpec, folder: Path, expected: str | None = None) -> PreparedData:
    """The prepared data in `folder`, made if it is not there yet for this very content. Raises DataError and its like.

    expected: the fingerprint that a run was begun with. Raises SettingsError if the content has another, and leaves `folder` alone.
    """
    train = read_table(config.train)
    _tell(train)
    shape = None
    if not _is_tokenised(train):
        shape = shape_of(train, config.columns)
        log.info("%s: %s", train.source, shape.describe())
        config = replace(config, columns=shape.columns)
    if config.evaluation:
        evaluation: Table | None = read_table(config.evaluation)
    else:
        evaluation = own_held_out(train, config.columns.target) if config.own_held_out else None
    if evaluation:
        _tell(evaluation)
    fingerprint = _fingerprint(config, model, [train, evaluation])
    if expected not in (None, fingerprint):
        raise SettingsError(
            f"TRAIN_DATA={config.train.location}: the rows, or how they are read, changed since this run was begun. Bring them "
            "back, choose another RUN_NAME, or set OVERWRITE=true."
        )
    if (found := load_prepared(folder)) and found.fingerprint == fingerprint:
        found.unknown.check(config.max_unknown_targets, config.add_tokens)
        return found
    work = folder.with_name(f"{folder.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        if shape is None:
            prepared = _adopt(train, evaluation, config, fingerprint)
            parts = (prepared.train, prepared.evaluation)
            for table in filter(None, (train, evaluation)):
                check_rows(table.rows, model.tokenizer, model.embeddings, table.source)
            if all(has_texts(part) for part in parts):
                facts = [describe_table(table) for table in (train, evaluation) if table]
                prepared = replace(prepared, look=make_look(parts, model.seq2seq, model.tokenizer, facts))
        else:
            prepared = _tokenise_and_cut((train, evaluation), shape, config, model, work)
        prepared = replace(prepared, fingerprint=fingerprint, columns=config.columns.without_auto())
        save_prepared(prepared, folder, work / CUT_ROWS)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_prepared(folder)


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
    for rows, table in zip((train_rows, eval_rows), tables, strict=True):
        if len(rows) == 0:
            raise DataError(f"{table.source}: no row is left after the cut. Raise MAX_SOURCE_LENGTH and MAX_TARGET_LENGTH.")
    opening = None
    if chat:  # whose input and answers are one sequence, of which the answers are a part
        targets[0] = answer_lengths(assembled[0])
        shared = shared_opening(chats_of(examples))
        opening = {"messages": shared.messages, "tools": shared.tools} if shared else None
    counts = _counted(sources[0]), _counted(targets[0])
    tokenizer = add_tokens(model.tokenizer, unknown.added)
    questions = [(part, hash_normalised(_keys(part), len(part))) for part in (examples, held_out)]
    chats = count_chats(chain(chats_of(examples), chats_of(held_out))) if chat else None
    facts = _facts(read, (examples, held_out), shape)
    look = make_look((train_rows, eval_rows), model.seq2seq, tokenizer, facts, (questions[0], questions[1]), chats)
    return PreparedData(train_rows, eval_rows, train_truncation, eval_truncation, "", chat, *counts, opening, unknown, look=look)


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


def _with_length(rows: Dataset) -> Dataset:
    return rows.add_column("length", (token_lengths(rows, "input_ids") + token_lengths(rows, "labels")).tolist())


def _is_tokenised(table: Table) -> bool:
    return {"input_ids", "labels"} <= set(table.rows.column_names)


def _adopt(train: Table, evaluation: Table | None, config: DataConfig, fingerprint: str) -> PreparedData:
    """Rows that were tokenised elsewhere, as they are; chats if the folder that `prepare` left them in says so."""
    if config.add_tokens != "none":
        raise SettingsError(f"ADD_TOKENS={config.add_tokens}: the rows of {train.source} are tokens already. Set ADD_TOKENS=none.")
    if evaluation is not None and not _is_tokenised(evaluation):
        raise DataError(f"{evaluation.source}: no tokenised rows, but {train.source} has. Prepare both the same way.")
    if evaluation is None:
        keys = (str(ids) for batch in train.rows.iter(batch_size=ROWS_AT_ONCE) for ids in batch["input_ids"])
        indices = split_rows(digest_keys(keys, config.seed), config.eval_fraction, train)
        parts = [train.rows.select(side) for side in indices]
    else:
        parts = [train.rows, evaluation.rows]
    parts = [_with_length(part.remove_columns("length") if "length" in part.column_names else part) for part in parts]
    train_rows, eval_rows = parts
    made = load_prepared(Path(config.train.location).parent)
    chat, opening = (made.chat, made.opening) if made else (False, None)
    cut = _untruncated(train_rows), _untruncated(eval_rows)
    return PreparedData(train_rows, eval_rows, *cut, fingerprint, chat, opening=opening)


def _untruncated(rows: Dataset) -> Truncation:
    longest = int(token_lengths(rows, "input_ids").max()), int(token_lengths(rows, "labels").max())
    return Truncation(len(rows), *longest, 0, 0, 0, 0)


def _tell(table: Table) -> None:
    for note in table.notes:
        log.info("%s: %s", table.source, note)


def _fingerprint(config: DataConfig, model: ModelSpec, tables: list[Table | None]) -> str:
    digest = hashlib.sha256()
    asked = {name: value for name, value in asdict(config).items() if name not in NOT_IN_FINGERPRINT}
    if config.add_tokens != "none":  # as everywhere before there was such a setting
        digest.update(config.add_tokens.encode())
    asked["columns"] = config.columns.identity()
    limits = asdict(model.limits)
    if limits["hard_target"] in (None, limits["hard"]):  # says nothing new, and versions before did not have it
        del limits["hard_target"]
    digest.update(json.dumps([asked, limits, model.seq2seq], sort_keys=True).encode())
    digest.update(json.dumps(model.tokenizer.get_vocab(), sort_keys=True).encode())
    digest.update(str(model.tokenizer.chat_template).encode())
    languages = [getattr(model.tokenizer, name, None) for name in ("src_lang", "tgt_lang")]
    if any(languages):
        digest.update(json.dumps(languages).encode())
    if config.columns.preprocess:
        digest.update(Path(config.columns.preprocess.rpartition(":")[0]).read_bytes())
    for table in tables:
        if table is not None:
            digest.update(_content(table.rows))
    return digest.hexdigest()


def _content(rows: Dataset) -> bytes:
    """sha256 of the cells, whatever file they came from."""
    digest = hashlib.sha256(json.dumps(rows.column_names).encode())
    for batch in rows.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        digest.update(json.dumps(batch.to_pydict(), default=str).encode())
    return digest.digest()
