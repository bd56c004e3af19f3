"""The look as a whole: what became of each table, and what chats are made of."""

import pytest
from datasets import Dataset

from job.data.chat_template import Chat
from job.data.column_mapping import ColumnMapping
from job.data.look import Chats
from job.data.make_look import count_chats, describe_table, has_texts, make_look
from job.data.row_counts import hash_normalised
from job.data.shapes import Shape
from job.tables.table import Source, Table

ROWS = {
    "row": ["row 2", "row 3"],
    "input": ["Hi!", "bye"],
    "ground_truth": ["a", "b"],
    "input_ids": [[5], [6]],
    "labels": [[7], [8]],
}


def test_questions_are_compared_as_texts_too(tokenizer):
    train, held_out = Dataset.from_dict(ROWS), Dataset.from_dict(ROWS | {"row": ["row 8", "row 9"], "input_ids": [[9], [6]]})
    assert make_look((train, held_out), True, tokenizer, []).shared.rows == 1, "the tokens of bye alone"
    questions = tuple((part, hash_normalised(texts, 2)) for part, texts in ((train, ["Hi!", "bye"]), (held_out, ["hi", "what"])))
    look = make_look((train, held_out), True, tokenizer, [], (questions[0], questions[1]))
    assert look.shared.rows == 2
    assert [row.name for row in look.first] == ["row 2", "row 3"]
    assert (look.training.rows, look.held_out.rows, look.answers.different) == (2, 2, 2)


def test_chats_are_counted_by_messages_roles_and_tools():
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    chats = [Chat([user, assistant]), Chat([user, assistant] * 2), Chat([user, assistant], [{"type": "function"}])]
    assert count_chats(chats) == Chats({"2": 2, "4": 1}, {"user": 4, "assistant": 4}, 1)


def test_rows_that_became_no_example_are_named():
    table = Table(Source("TRAIN_DATA", "mine.csv"), Dataset.from_dict({"a": list("abcdefgh")}))
    shape = Shape("as set", ColumnMapping("a", "a", "messages", "{input}"), ("a",))
    kept = [Dataset.from_dict({"row": ["row 2", "row 5"]}), Dataset.from_dict({"row": ["row 3"]})]
    facts = describe_table(table, kept, shape)
    assert (facts.rows, facts.kept) == (8, 3)
    assert facts.left_out == ("row 1", "row 4", "row 6", "row 7", "row 8")
    assert (facts.shape, facts.used, facts.unused) == ("as set", ("a",), ())
    whole = describe_table(table)
    assert (whole.shape, whole.kept, whole.left_out) == ("tokens", 8, ())


@pytest.mark.parametrize(
    ("columns", "has"),
    [(ROWS, True), ({"input_ids": [[1]], "labels": [[1]]}, False), (ROWS | {"input": [1, 2]}, False)],
)
def test_rows_that_were_tokenised_elsewhere_may_lack_their_texts(columns, has):
    assert has_texts(Dataset.from_dict(columns)) is has
