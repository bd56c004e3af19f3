"""A run's adapter, and rows as it was trained to read them: the same for `predict` and `serve`."""

import logging
from dataclasses import dataclass, replace

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from job.config.inputs import base_model, column_mapping
from job.config.settings import Settings
from job.data.asked import asked_rows
from job.data.chat import encode_open_chats
from job.data.chat_content import warn_of_changes
from job.data.chat_rows import opening_of
from job.data.chat_template import Chat
from job.data.column_mapping import AUTO, ColumnMapping
from job.data.round_trip import RoundTrip, is_lossy
from job.data.rows import preprocess, to_chats, to_prompts
from job.data.tokenise import encode_prompts
from job.data.unknown_text import list_characters
from job.errors import DataError
from job.evaluation.generate import Ids
from job.model.load import BaseModel, load_config, load_tokenizer
from job.model.positions import usual_length
from job.pipeline.own_function import own_function
from job.pipeline.records import AdapterRecord
from job.pipeline.run_folder import RunFolder
from job.tables.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedAdapter:
    """The adapter of a run, and what it takes to ask it as it was trained. No weights are in memory."""

    folder: RunFolder
    record: AdapterRecord
    base: BaseModel
    config: PreTrainedConfig
    """Of the base."""
    tokenizer: PreTrainedTokenizerBase
    columns: ColumnMapping
    """What of a table is asked."""

    @classmethod
    def of(cls, settings: Settings) -> "TrainedAdapter":
        """That of the run which the settings name; they may name another INPUT_COLUMN. Raises InputMissing if there is none."""
        folder = RunFolder.of(settings)
        folder.check_adapter()
        record = AdapterRecord.read(folder.adapter_record)
        base = base_model(settings, record.base_model)
        columns = replace(
            column_mapping(settings),
            input=record.input_column if settings.input_column == AUTO else settings.input_column,
            messages=record.messages_column,
            template=record.prompt_template,
            preprocess=own_function(settings.preprocess, record),
        )
        return cls(folder, record, base, load_config(base), load_tokenizer(base, folder.adapter), columns)

    def with_own_tokenizer(self) -> "TrainedAdapter":
        """The same for another thread: tokenizers are not made for several."""
        return replace(self, tokenizer=load_tokenizer(self.base, self.folder.adapter))

    @property
    def limit(self) -> int | None:
        """Tokens of an input that are read: as many as were allowed in training, else as the model was made for."""
        usual = usual_length(self.config, self.tokenizer)
        if self.record.max_source_length or usual is None or self.record.seq2seq:
            return self.record.max_source_length or usual
        return max(1, usual - self.record.max_new_tokens)

    def prompts(self, table: Table) -> tuple[list[int], list[Ids]]:
        """Indices of the rows of `table` that have an input, and their token ids, of any length."""
        record, own = self.record, self.columns.preprocess
        table = preprocess(table, own) if own else table
        asked = asked_rows(table, self.columns, record.chat)
        table = table.select(asked)
        if record.chat:
            prompts = self._chat_prompts(Chat(**(record.chat_opening or {"messages": []})), table)
            if len(prompts) != len(asked):
                raise DataError(f"{table.source}: {len(asked)} rows hold {len(prompts)} chats. Give each chat a row of its own.")
            return asked, prompts
        texts = to_prompts(table, replace(self.columns, preprocess=None))
        prompts = encode_prompts(texts, self.tokenizer, record.seq2seq)
        self._warn_of_unknown(texts, prompts, table)
        return asked, prompts

    def _warn_of_unknown(self, texts: list[str], prompts: list[Ids], table: Table) -> None:
        missing = RoundTrip(self.tokenizer).missing(texts, prompts, is_answer=False)
        if lossy := [row for row, pieces in enumerate(missing) if is_lossy(pieces)]:
            pieces = dict.fromkeys(piece for row in lossy for piece in missing[row] or ())
            log.warning(
                "%d of %d inputs hold what the model's tokenizer lacks: %s; the first is %s. The model reads the rest.",
                len(lossy), len(texts), list_characters(pieces), table.row_name(lossy[0]),
            )  # fmt: skip

    def _chat_prompts(self, opening: Chat, table: Table) -> list[Ids]:
        """The token ids of chats, which the model has to go on with. opening: what all chats of the training began with."""
        chats = to_chats(table, replace(self.columns, preprocess=None), opening)
        if other := sum(opening_of(chat) != opening for chat in chats) if opening.messages or opening.tools else 0:
            log.warning(
                "%d of %d chats do not begin with the system message and the tools that all chats of the training began with: "
                "expect worse answers. Put them into %s, or leave that column out for INPUT_COLUMN",
                other,
                len(chats),
                self.columns.messages,
            )
        warn_of_changes(chats, self.tokenizer)
        return encode_open_chats(chats, self.tokenizer)
