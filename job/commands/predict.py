"""The command `predict`: answers to new rows, made with a trained adapter. A long file that was interrupted is resumed."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain, count
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from job.config.inputs import base_model, column_mapping
from job.config.libraries import weight_format
from job.config.settings import Settings
from job.data.answers import AnswerFile
from job.data.asked import asked_rows, select_rows
from job.data.chat import encode_open_chats
from job.data.chat_content import warn_of_changes
from job.data.chat_rows import opening_of
from job.data.chat_template import Chat
from job.data.column_mapping import AUTO, ColumnMapping
from job.data.round_trip import RoundTrip, is_lossy
from job.data.rows import preprocess, to_chats, to_prompts
from job.data.token_range import check_prompts
from job.data.tokenise import cut_source, encode_prompts
from job.data.unknown_text import list_characters
from job.errors import DataError
from job.evaluation.generate import Decoding, Ids, confidences, decode, generate_ids
from job.model.answering import read_answering_config
from job.model.load import BaseModel, embeddings, load_base, load_config, load_tokenizer
from job.model.lora import load_adapter
from job.model.positions import usual_length
from job.pipeline.claim import disk_full_as_error
from job.pipeline.plan import choose_eval_batch_size
from job.pipeline.records import AdapterRecord
from job.pipeline.run_folder import RunFolder
from job.publish.adapter import WEIGHTS
from job.system.hardware import Hardware, check_quantization, choose_precision, detect
from job.tables.destination import choose_destination
from job.tables.give_back import Columns, give_back, rehearse
from job.tables.parts import ALL
from job.tables.read import Source, Table, read_table
from job.training.supervision import HEARTBEAT_EVERY_S

log = logging.getLogger(__name__)

OUTPUT_COLUMN, CONFIDENCE_COLUMN = "output", "confidence"
ROWS_BETWEEN_WRITES = 256
"""Rows that are answered between two writes to the disk: what a sudden end may cost."""


@dataclass(frozen=True)
class Predictor:
    """What answers prompts: the model is loaded once it is needed."""

    base: BaseModel
    adapter: Path
    record: AdapterRecord
    hardware: Hardware
    weights: tuple[str, str]
    """Precision and quantisation of the base."""
    decoding: Decoding
    confidence: bool

    def load(self) -> PeftModel:
        """The base model with the adapter."""
        base = load_base(self.base, self.record.seq2seq, *weight_format(*self.weights), self.hardware.device)
        base.generation_config = read_answering_config(self.adapter) or base.generation_config
        return load_adapter(base, self.adapter)

    def fingerprint(self, prompts: list[Ids]) -> str:
        """sha256 of all that the answers to `prompts` depend on."""
        adapter = hashlib.sha256((self.adapter / WEIGHTS).read_bytes()).hexdigest()
        decoding = (self.decoding.max_new_tokens, self.decoding.num_beams, self.confidence)
        depends_on = (prompts, adapter, self.base.model_id, self.base.revision, self.weights, decoding)
        return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()


def predict(settings: Settings, file: str, output: str | None = None) -> None:
    """Answers the rows of `file` with the run's adapter, with the template and lengths of its training.

    Gives the same file back with further columns, at `output` or in OUTPUT_DIR/RUN_NAME/predictions/. What can fail in writing
    it is tried before the first answer.
    """
    folder = RunFolder.of(settings)
    folder.check_adapter()
    source = Source("FILE", file, settings.sheet, split=ALL)
    wanted = choose_destination(source, output, folder.predictions)
    with disk_full_as_error(wanted.folder), AnswerFile(wanted.path) as answers:
        record = AdapterRecord.read(folder.adapter_record)
        base = base_model(settings, record.base_model)
        tokenizer, config = load_tokenizer(base, folder.adapter), load_config(base)
        table = _read(source)
        names = _free_names((OUTPUT_COLUMN, CONFIDENCE_COLUMN)[: 1 + settings.predict_confidence], table)
        asked, prompts = _prompts(settings, record, table, tokenizer)
        destination = rehearse(wanted, table, names)
        prompts = _shorten(prompts, _limit(record, config, tokenizer), tokenizer)
        check_prompts(prompts, [f"{source}: {table.row_name(row)}" for row in asked], tokenizer, embeddings(config))
        predictor = _predictor(settings, folder, record, base, config, max(map(len, prompts)))
        _answer_all(predictor, tokenizer, prompts, answers)
        cells = [(None,) * len(names)] * len(table.rows)
        for row, answer in zip(asked, range(len(prompts)), strict=True):
            cells[row] = tuple(answers.known[answer].values())
        destination.check_unchanged(answers.path)
        give_back(destination, table, Columns(names, cells))
        answers.discard()
    log.info("answered %d rows: %s", len(prompts), destination.path)


def _read(source: Source) -> Table:
    """The rows; what a person should know of them is logged."""
    table = read_table(source)
    for note in table.notes:
        log.info("%s", note)
    if table.held_out:
        log.warning(
            "%s: %d held-out rows in it are not answered; put them into a file of their own", source, len(table.held_out.rows)
        )
    return table


def _predictor(
    settings: Settings, folder: RunFolder, record: AdapterRecord, base: BaseModel, config: PreTrainedConfig, longest: int
) -> Predictor:
    """longest: tokens of the longest prompt."""
    hardware = detect(settings.device)
    weights = _weights(settings, record, hardware)
    batch_size = choose_eval_batch_size(settings, hardware, config, weights, (longest, record.max_new_tokens))
    decoding = Decoding(batch_size, record.max_new_tokens, record.num_beams, kept=record.kept_special_tokens)
    return Predictor(base, folder.adapter, record, hardware, weights, decoding, settings.predict_confidence)


def _answer_all(predictor: Predictor, tokenizer: PreTrainedTokenizerBase, prompts: list[Ids], answers: AnswerFile) -> None:
    """Answers `prompts`, but for those that an earlier try left answers to."""
    answers.resume(predictor.fingerprint(prompts))
    left = [row for row in range(len(prompts)) if row not in answers.known]
    if left:
        model = predictor.load()
        for rows in _by_length(left, prompts):
            answers.add(rows, _answer(predictor, model, tokenizer, [prompts[row] for row in rows]))


def _answer(predictor: Predictor, model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Ids]) -> dict[str, list]:
    """Further columns of the table for these prompts."""
    answers = generate_ids(model, tokenizer, prompts, predictor.decoding)
    columns: dict[str, list] = {OUTPUT_COLUMN: decode(answers, tokenizer, predictor.decoding.kept)}
    if predictor.confidence:
        columns[CONFIDENCE_COLUMN] = confidences(model, tokenizer, prompts, answers, predictor.decoding)
    return columns


def _free_names(names: Sequence[str], table: Table) -> tuple[str, ...]:
    """`names`, each with a number where a person's own column is called so."""
    own = set(table.rows.column_names)
    numbered = (chain([name], (f"{name}_{number}" for number in count(2))) for name in names)
    return tuple(next(free for free in candidates if free not in own) for candidates in numbered)


def _prompts(
    settings: Settings, record: AdapterRecord, table: Table, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[Ids]]:
    """Indices of the rows that have an input, and their token ids, as the adapter was trained to read them."""
    columns = replace(
        column_mapping(settings),
        input=record.input_column if settings.input_column == AUTO else settings.input_column,
        messages=record.messages_column,
        template=record.prompt_template,
    )
    table = preprocess(table, record.preprocess) if record.preprocess else table
    asked = asked_rows(table, columns, record.chat)
    table = select_rows(table, asked)
    if record.chat:
        prompts = _chat_prompts(Chat(**(record.chat_opening or {"messages": []})), table, columns, tokenizer)
        if len(prompts) != len(asked):
            raise DataError(f"{table.source}: {len(asked)} rows hold {len(prompts)} chats. Give each chat a row of its own.")
        return asked, prompts
    texts = to_prompts(table, columns)
    prompts = encode_prompts(texts, tokenizer, record.seq2seq)
    _warn_of_unknown(texts, prompts, table, tokenizer)
    return asked, prompts


def _warn_of_unknown(texts: list[str], prompts: list[Ids], table: Table, tokenizer: PreTrainedTokenizerBase) -> None:
    missing = RoundTrip(tokenizer).missing(texts, prompts, is_answer=False)
    if lossy := [row for row, pieces in enumerate(missing) if is_lossy(pieces)]:
        pieces = dict.fromkeys(piece for row in lossy for piece in missing[row] or ())
        log.warning(
            "%d of %d inputs hold what the model's tokenizer lacks: %s; the first is %s. The model reads the rest.",
            len(lossy), len(texts), list_characters(pieces), table.row_name(lossy[0]),
        )  # fmt: skip


def _chat_prompts(opening: Chat, table: Table, columns: ColumnMapping, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """The same of chats. opening: what all chats of the training began with."""
    chats = to_chats(table, columns, opening)
    if other := sum(opening_of(chat) != opening for chat in chats) if opening.messages or opening.tools else 0:
        log.warning(
            "%d of %d chats do not begin with the system message and the tools that all chats of the training began with: expect "
            "worse answers. Put them into %s, or leave that column out for INPUT_COLUMN",
            other,
            len(chats),
            columns.messages,
        )
    warn_of_changes(chats, tokenizer)
    return encode_open_chats(chats, tokenizer)


def _limit(record: AdapterRecord, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens of an input that are read: as many as were allowed in training, else as the model was made for."""
    usual = usual_length(config, tokenizer)
    if record.max_source_length or usual is None or record.seq2seq:
        return record.max_source_length or usual
    return max(1, usual - record.max_new_tokens)


def _shorten(prompts: list[Ids], limit: int | None, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """`prompts`, none longer than `limit`; a warning says how many were."""
    if limit is None or not (longer := sum(len(prompt) > limit for prompt in prompts)):
        return prompts
    log.warning("%d of %d inputs are longer than %d tokens and are truncated, as in training", longer, len(prompts), limit)
    return [cut_source(prompt, limit, tokenizer.eos_token_id) for prompt in prompts]


def _weights(settings: Settings, record: AdapterRecord, hardware: Hardware) -> tuple[str, str]:
    """(precision, quantisation) of the base: on a CPU as it was trained, on a GPU its best, if nothing else is asked for.

    Raises SettingsError for what this machine cannot compute with.
    """
    quantization = record.quantization if settings.quantization == "auto" else settings.quantization
    check_quantization(quantization, hardware)
    if settings.precision == "auto" and hardware.device == "cpu":
        return "fp32" if record.precision == "fp16" else record.precision, quantization
    return choose_precision(settings.precision, hardware), quantization


def _by_length(rows: list[int], prompts: list[Ids]) -> Iterator[list[int]]:
    """Parts of `rows`, the longest prompts first; logs the progress every few seconds."""
    rows = sorted(rows, key=lambda row: len(prompts[row]), reverse=True)
    started = logged = time.monotonic()
    for first in range(0, len(rows), ROWS_BETWEEN_WRITES):
        if first and time.monotonic() - logged >= HEARTBEAT_EVERY_S:
            logged = time.monotonic()
            per_s = first / (logged - started)
            left = timedelta(seconds=round((len(rows) - first) / per_s))
            log.info("answered %d of %d rows, %.1f rows/s, at most %s left", first, len(rows), per_s, left)
        yield rows[first : first + ROWS_BETWEEN_WRITES]
