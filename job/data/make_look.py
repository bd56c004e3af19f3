"""Everything of a look at the data, made of the rows and of what they were made from."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from job.data.chat_template import Chat
from job.data.first_rows import first_rows
from job.data.look import Chats, Look, TableFacts
from job.data.row_counts import Hashed, count_answers, count_part, find_shared
from job.data.shapes import Shape
from job.data.token_lengths import ROWS_AT_ONCE
from job.tables.table import Table

SHOWN_LEFT_OUT = 5


def make_look(
    parts: tuple[Dataset, Dataset],
    seq2seq: bool,
    tokenizer: PreTrainedTokenizerBase,
    tables: Sequence[TableFacts],
    questions: tuple[Hashed, Hashed] | None = None,
    chats: Chats | None = None,
) -> Look:
    """The look at these training and held-out rows, as they are trained on.

    seq2seq: whether inputs and answers stand apart. questions: what was tokenised, training and held out, with hashes of it.
    """
    train, held_out = parts
    (training, hashes), (others, other_hashes) = count_part(train, seq2seq), count_part(held_out, seq2seq)
    pairs = [((train, hashes.inputs), (held_out, other_hashes.inputs)), *([questions] if questions else [])]
    answers = count_answers((train, hashes), (held_out, other_hashes))
    return Look(tuple(tables), training, others, answers, find_shared(pairs), chats, first_rows(train, tokenizer, seq2seq))


def has_texts(rows: Dataset) -> bool:
    """Whether rows that were tokenised elsewhere have the texts that they were made from."""
    kinds = {name: getattr(rows.features.get(name), "dtype", None) for name in ("input", "ground_truth")}
    return set(kinds.values()) <= {"string", "large_string"}


def describe_table(table: Table, examples: Sequence[Dataset] = (), shape: Shape | None = None) -> TableFacts:
    """What became of `table`: of its columns, and of its rows, which those of `examples` are that were not left out.

    examples: parts of it, in its order; none where its rows were taken as they are, as `shape` then.
    """
    kept = sum(map(len, examples)) if examples else len(table.rows)
    is_row_by_row = shape is not None and not shape.is_chat
    return TableFacts(
        source=table.source.location,
        sheet=table.source.sheet,
        rows=len(table.rows),
        kept=kept,
        left_out=tuple(_left_out(table, examples)) if is_row_by_row and kept < len(table.rows) else (),
        shape=shape.kind if shape else "tokens",
        used=shape.used if shape else ("input_ids", "labels"),
        unused=shape.unused if shape else (),
        files=table.files,
        notes=table.notes,
    )


def _left_out(table: Table, examples: Sequence[Dataset]) -> Iterator[str]:
    """Names of the first rows that no example is of."""
    parts = [(name for batch in part.select_columns(["row"]).iter(ROWS_AT_ONCE) for name in batch["row"]) for part in examples]
    waiting = [next(names, None) for names in parts]
    left = SHOWN_LEFT_OUT
    for index in range(len(table.rows)):
        name = table.row_name(index)
        if name in waiting:
            place = waiting.index(name)
            waiting[place] = next(parts[place], None)
            continue
        yield name
        left -= 1
        if not left:
            return


def count_chats(chats: Iterable[Chat]) -> Chats:
    """What these chats are made of."""
    messages: Counter[int] = Counter()
    roles: Counter[str] = Counter()
    with_tools = 0
    for chat in chats:
        messages[len(chat.messages)] += 1
        roles.update(message["role"] for message in chat.messages)
        with_tools += bool(chat.tools)
    return Chats({str(length): messages[length] for length in sorted(messages)}, dict(roles.most_common()), with_tools)
