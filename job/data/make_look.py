"""Everything of a look at the data, made of the rows and of what they were made from."""

from collections import Counter
from collections.abc import Iterable, Sequence

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from job.data.chat_template import Chat
from job.data.first_rows import first_rows
from job.data.look import Chats, Look, TableFacts
from job.data.row_counts import Hashed, count_answers, count_part, find_shared


def make_look(
    parts: tuple[Dataset, Dataset],
    seq2seq: bool,
    tokenizer: PreTrainedTokenizerBase,
    tables: tuple[TableFacts, ...],
    questions: Sequence[tuple[Hashed, Hashed]] = (),
) -> Look:
    """The look at these training and held-out rows, as they are trained on.

    seq2seq: whether inputs and answers stand apart. questions: training and held-out rows with further hashes of their inputs.
    """
    train, held_out = parts
    (training, hashes), (others, other_hashes) = count_part(train, seq2seq), count_part(held_out, seq2seq)
    shared = find_shared([*questions, ((train, hashes.inputs), (held_out, other_hashes.inputs))])
    answers = count_answers((train, hashes), (held_out, other_hashes))
    return Look(tables, training, others, answers, shared, first=first_rows(train, tokenizer, seq2seq))


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
