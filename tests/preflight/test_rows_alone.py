"""What rows give alone is computed once, and the rows that tell are as unlike as a table has them."""

import pytest
import torch
from datasets import Dataset

from job.preflight import rows_alone as module
from job.preflight.rows_alone import telling_rows
from tests.preflight.material import alone
from tests.tiny_models import adapted, load, rows


def table(*lengths: tuple[int, int]) -> Dataset:
    """Rows of inputs and answers so long; each is made of its own number."""
    made = [{"input_ids": [5 + place] * source, "labels": [5 + place] * target} for place, (source, target) in enumerate(lengths)]
    return Dataset.from_list(made)


@pytest.mark.parametrize(("lengths", "longest", "others"), [
    ([(5, 5), (9, 2), (4, 8), (1, 1), (3, 4)], (9, 8), [1, 3]),
    ([(9, 4), (5, 4), (12, 4), (7, 4)], (12, 4), [0, 1]),
    ([(1, 20), (9, 2), (4, 8), (12, 9)], (12, 20), [1, 0]),  # the shortest input has the longest answer
    ([(5, 3), (5, 1), (5, 2)], (5, 3), [1, 0]),
    ([(9, 4), (5, 4)], (9, 4), [0, 1]),
    ([(9, 4)], (9, 4), [0]),
])  # fmt: skip
def test_the_rows_that_tell_are_the_longest_and_one_that_is_shorter_in_its_input_and_one_in_its_answer(
    t5_folder, lengths, longest, others
):
    data = table(*lengths)
    first, *found = telling_rows(load(t5_folder), data)
    assert (len(first["input_ids"]), len(first["labels"])) == longest
    assert found == [{name: data[place][name] for name in ("input_ids", "labels")} for place in others]


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_each_row_is_computed_once_in_each_type_without_padding_and_without_dropout(kind, request, tokenizer, monkeypatch):
    model = adapted(load(request.getfixturevalue(kind), torch.bfloat16), torch.bfloat16).train()
    asked, compute, seen = alone(model, Dataset.from_list(rows("llama" in kind)), tokenizer), module.loss_and_gradient, []

    def counted(model, batch, *given):
        seen.append((tuple(batch["input_ids"].shape), model.training))
        return compute(model, batch, *given)

    monkeypatch.setattr(module, "loss_and_gradient", counted)
    for _ in range(2):
        for row in asked.rows:
            narrow, wide = (asked.given(row, wide=wide) for wide in (False, True))
            assert narrow.loss == pytest.approx(wide.loss, rel=0.02)
            assert narrow.loss != wide.loss
            assert narrow.gradient.shape == wide.gradient.shape
            assert narrow.overflowing is None
    assert seen == [((1, len(row["input_ids"])), False) for row in asked.rows for _ in range(2)]
    assert model.training, "as it was"


def test_a_memory_that_is_full_is_told_and_nothing_is_kept(t5_folder, tokenizer, monkeypatch):
    asked, compute = alone(adapted(load(t5_folder)), table((9, 4), (5, 4)), tokenizer), module.loss_and_gradient

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(module, "loss_and_gradient", full)
    with pytest.raises(torch.OutOfMemoryError):
        asked.given(asked.rows[0], wide=True)
    monkeypatch.setattr(module, "loss_and_gradient", compute)
    assert asked.given(asked.rows[0], wide=True).loss > 0
