"""Tokens without an embedding are found wherever they are, and named; what merely exists in the tokenizer is no matter."""

import pytest
from datasets import Dataset, concatenate_datasets

from job.data import token_range as module
from job.data.token_range import check_prompts, check_rows
from job.errors import DataError

ROWS = {"input_ids": [[5, 6], [7], [8, 9, 1]], "labels": [[1], [-100, 2], []], "row": ["row 2", "row 3", "row 5"]}


def rows(**columns: list) -> Dataset:
    return Dataset.from_dict(ROWS | columns)


@pytest.mark.parametrize("rows_at_once", [1, 2, 10_000])
@pytest.mark.parametrize("column", ["input_ids", "labels"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_token_out_of_range_is_told_with_its_row(tokenizer, monkeypatch, place, column, rows_at_once):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    lists = [list(ids) for ids in ROWS[column]]
    lists[place] += [200, 201]
    with pytest.raises(DataError) as raised:
        check_rows(rows(**{column: lists}), tokenizer, 200, "TRAIN_DATA=x.csv")
    assert str(raised.value) == (
        f'TRAIN_DATA=x.csv: {ROWS["row"][place]}: "{tokenizer.convert_ids_to_tokens(200)}" is token 200, and the model has 200 '
        "embeddings, for tokens 0 to 199. Take it out of the row, or save the model's own tokenizer beside it."
    )


def test_the_largest_token_that_has_an_embedding_and_ignored_labels_are_fine(tokenizer):
    check_rows(rows(), tokenizer, 10, "x")
    check_rows(rows().select([2, 0]), tokenizer, 10, "x")
    check_rows(rows().select([]), tokenizer, 1, "x")
    check_rows(rows(input_ids=[[10**6], [], []]), tokenizer, None, "x")


def test_rows_that_were_reordered_or_put_together_keep_their_names(tokenizer):
    whole = rows(input_ids=[[5], [6], [200]])
    for part in (whole.select([2, 0]), concatenate_datasets([rows(), whole])):
        with pytest.raises(DataError, match=": row 5: "):
            check_rows(part, tokenizer, 200, "x")


def test_rows_that_were_tokenised_elsewhere_are_numbered_and_may_hold_no_negative_token(tokenizer):
    with pytest.raises(DataError, match=r"^x: row 2: token -5 is unknown to the tokenizer, and the model has 50 embeddings"):
        check_rows(rows(input_ids=[[5], [6, -5], [7]]).remove_columns("row"), tokenizer, 50, "x")


def test_of_a_token_that_no_tokenizer_knows_the_number_is_told(tokenizer):
    with pytest.raises(DataError, match=r"token 99999 is unknown to the tokenizer"):
        check_rows(rows(input_ids=[[99999], [], []]), tokenizer, 50, "x")


def test_prompts_are_looked_at_row_by_row(tokenizer):
    check_prompts([[1, 2], [], [199]], ["a", "b", "c"], tokenizer, 200)
    check_prompts([[10**6]], ["a"], tokenizer, None)
    with pytest.raises(DataError, match=r'^b: "[^"]+" is token 200, and the model has 200 embeddings'):
        check_prompts([[1], [5, 200]], ["a", "b"], tokenizer, 200)
