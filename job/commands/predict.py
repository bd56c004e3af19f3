"""The command `predict`: answers to new rows, made with a trained adapter. A long file that was interrupted is resumed."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from job.config.inputs import base_model, column_mapping
from job.config.libraries import weight_format
from job.config.settings import Settings
from job.data.answers import AnswerFile
from job.data.chat import encode_open_chats
from job.data.chat_content import warn_of_changes
from job.data.chat_rows import opening_of
from job.data.chat_template import Chat
from job.data.column_mapping import AUTO, ColumnMapping
from job.data.parts import ALL
from job.data.read import Source, Table, read_table
from job.data.round_trip import RoundTrip, is_lossy
from job.data.rows import to_chats, to_prompts
from job.data.token_range import check_prompts
from job.data.tokenise import cut_source, encode_prompts
from job.data.unknown_text import list_characters
from job.data.write import check_place, write_table
from job.errors import OutputError
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

    Writes the same table with further columns, to `output` or OUTPUT_DIR/RUN_NAME/predictions/.
    """
    folder = RunFolder.of(settings)
    folder.check_adapter()
    path = Path(output) if output else folder.predictions / Path(file).name
    if path.resolve() == Path(file).resolve():
        raise OutputError(f"{path}: the answers would overwrite the questions. Name another file.")
    with disk_full_as_error(settings.output_dir):
        check_place(path)
        record = AdapterRecord.read(folder.adapter_record)
        base = base_model(settings, record.base_model)
        tokenizer, config = load_tokenizer(base, folder.adapter), load_config(base)
        table = read_table(Source("FILE", file, settings.sheet, split=ALL))
        prompts = _shorten(_prompts(settings, record, table, tokenizer), _limit(record, config, tokenizer), tokenizer)
        names = [f"{table.source}: {table.row_name(index)}" for index in range(len(prompts))]
        check_prompts(prompts, names, tokenizer, embeddings(config))
        predictor = _predictor(settings, folder, record, base, config, max(map(len, prompts)))
        _answer_table(predictor, tokenizer, table, prompts, path)
    log.info("answered %d rows: %s", len(prompts), path)


def _predictor(
    settings: Settings, folder: RunFolder, record: AdapterRecord, base: BaseModel, config: PreTrainedConfig, longest: int
) -> Predictor:
    """longest: tokens of the longest prompt."""
    hardware = detect(settings.device)
    weights = _weights(settings, record, hardware)
    batch_size = choose_eval_batch_size(settings, hardware, config, weights, (longest, record.max_new_tokens))
    decoding = Decoding(batch_size, record.max_new_tokens, record.num_beams, kept=record.kept_special_tokens)
    return Predictor(base, folder.adapter, record, hardware, weights, decoding, settings.predict_confidence)


def _answer_table(predictor: Predictor, tokenizer: PreTrainedTokenizerBase, table: Table, prompts: list[Ids], path: Path) -> None:
    """Writes `table` with the answers to `prompts` to `path`; those that an earlier try left are not computed again."""
    with AnswerFile(path, predictor.fingerprint(prompts)) as answers:
        left = [row for row in range(len(prompts)) if row not in answers.known]
        if left:
            model = predictor.load()
            for rows in _by_length(left, prompts):
                answers.add(rows, _answer(predictor, model, tokenizer, [prompts[row] for row in rows]))
        cells = table.rows.to_dict()
        answered = {_free_name(name, cells): column for name, column in answers.columns().items()}
        write_table(cells | answered, path, _free_name(OUTPUT_COLUMN, cells))
    answers.path.unlink()


def _answer(predictor: Predictor, model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Ids]) -> dict[str, list]:
    """Further columns of the table for these prompts."""
    answers = generate_ids(model, tokenizer, prompts, predictor.decoding)
    columns: dict[str, list] = {OUTPUT_COLUMN: decode(answers, tokenizer, predictor.decoding.kept)}
    if predictor.confidence:
        columns[CONFIDENCE_COLUMN] = confidences(model, tokenizer, prompts, answers, predictor.decoding)
    return columns


def _free_name(name: str, columns: dict[str, list]) -> str:
    """`name`, with a number where a person's own column is called so."""
    number, free = 1, name
    while free in columns:
        number += 1
        free = f"{name}_{number}"
    return free


def _prompts(settings: Settings, record: AdapterRecord, table: Table, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """Token ids of the rows as the adapter was trained to read them."""
    columns = replace(
        column_mapping(settings),
        input=record.input_column if settings.input_column == AUTO else settings.input_column,
        messages=record.messages_column,
        template=record.prompt_template,
        preprocess=record.preprocess,
    )
    if record.chat:
        return _chat_prompts(Chat(**(record.chat_opening or {"messages": []})), table, columns, tokenizer)
    texts = to_prompts(table, columns)
    prompts = encode_prompts(texts, tokenizer, record.seq2seq)
    _warn_of_unknown(texts, prompts, table, tokenizer)
    return prompts


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
