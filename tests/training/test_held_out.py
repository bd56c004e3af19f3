"""The loss of the held-out rows: a mean over their labels, whatever the batch and however many ranks."""

import pytest
import torch
from transformers import AutoTokenizer

from job.errors import OutOfMemory
from job.model.packed_attention import accept_packed
from job.model.packing import collator
from job.system.ranks import Ranks
from job.training import held_out
from job.training.held_out import held_out_loss
from job.training.supervision import EvaluationStopped
from tests.training.material import make_model, rows


def measure(folder, model, count: int, micro_batch: int, ranks: Ranks | None = None, on_batch=lambda: None) -> float:
    data = rows(count, "llama" in folder.name).select_columns(["input_ids", "labels"])
    return held_out_loss(
        model, data, collator(model, AutoTokenizer.from_pretrained(folder)), micro_batch, ranks or Ranks(), on_batch
    )


def by_hand(folder, model, count: int) -> float:
    """Of each row alone, a label at a time, in double precision."""
    model.eval()
    total, labels_seen = 0.0, 0
    for row in rows(count, "llama" in folder.name):
        inputs, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            if "llama" in folder.name:
                logits, labels = model(input_ids=inputs).logits[:, :-1], labels[:, 1:]
            else:
                logits = model(input_ids=inputs, labels=labels).logits
        likelihoods = logits[0].double().log_softmax(-1)
        for place, label in enumerate(labels[0].tolist()):
            if label >= 0:
                total, labels_seen = total - likelihoods[place, label].item(), labels_seen + 1
    return total / labels_seen


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_it_is_a_mean_over_labels_whatever_the_batch(kind, packed, request):
    folder = request.getfixturevalue(kind)
    expected = by_hand(folder, make_model(folder), 7)
    model = make_model(folder, dropout=0.5)
    if packed:
        accept_packed(model.get_base_model())
    assert [measure(folder, model, 7, size) for size in (1, 3, 7, 8)] == pytest.approx([expected] * 4, rel=1e-5)


def test_it_is_the_librarys_own_loss_summed_over_the_labels(t5_folder):
    base = make_model(t5_folder).eval()
    with torch.no_grad():
        sums = [
            base(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item() * len(row["labels"])
            for row in rows(4, causal=False)
        ]
    expected = sum(sums) / sum(len(row["labels"]) for row in rows(4, causal=False))
    assert measure(t5_folder, base, 4, 4) == pytest.approx(expected, rel=1e-5)


class Alone(Ranks):
    """One rank of several, whose sum is taken afterwards."""

    def sum(self, tensor):
        parts.append(tensor.clone())
        return tensor


parts: list[torch.Tensor] = []


@pytest.mark.parametrize(("world_size", "count"), [(2, 7), (3, 7), (3, 2)])
def test_the_parts_of_the_ranks_are_the_whole_each_row_once(t5_folder, world_size, count):
    model = make_model(t5_folder)
    expected = measure(t5_folder, model, count, 4)
    parts.clear()
    for rank in range(world_size):
        if rank < count:
            measure(t5_folder, model, count, 4, Alone(rank, world_size))
    total, labels, stopped = sum(parts).tolist()
    assert total / labels == pytest.approx(expected, rel=1e-6)
    assert labels == sum(len(row["labels"]) for row in rows(count, causal=False))
    assert stopped == 0


@pytest.mark.parametrize(("count", "size", "calls"), [(7, 3, 3), (6, 3, 2), (1, 8, 1)])
def test_it_calls_before_each_batch_and_leaves_the_model_training(t5_folder, count, size, calls):
    model, modes = make_model(t5_folder).train(), []
    measure(t5_folder, model, count, size, on_batch=lambda: modes.append(model.training))
    assert modes == [False] * calls
    assert model.training


def test_a_stop_leaves_it_half_done_and_the_model_training(t5_folder):
    model, calls = make_model(t5_folder).train(), []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise EvaluationStopped

    with pytest.raises(EvaluationStopped):
        measure(t5_folder, model, 7, 2, on_batch=stop)
    assert len(calls) == 2
    assert model.training


def test_a_stop_of_another_rank_is_a_stop_of_this_one(t5_folder):
    class Told(Ranks):
        def sum(self, tensor):
            return tensor + torch.tensor([1.0, 1.0, 1.0])

    with pytest.raises(EvaluationStopped):
        measure(t5_folder, make_model(t5_folder), 4, 4, Told(0, 2))


def limit(monkeypatch, most: int) -> list[int]:
    """Out of memory above `most` rows at once; the rows of each try."""
    tries = []

    class Limited(held_out.Objective):
        def __call__(self, model, batch):
            tries.append(len(batch["attention_mask"]))
            if tries[-1] > most:
                raise torch.OutOfMemoryError("injected")
            return super().__call__(model, batch)

    monkeypatch.setattr(held_out, "Objective", Limited)
    monkeypatch.setattr(held_out, "free_memory", lambda: None)
    return tries


@pytest.mark.parametrize(
    ("most", "tried"), [(8, [7]), (4, [7, 3, 3, 1]), (2, [7, 3, 1, 1, 1, 1, 1, 1, 1]), (1, [7, 3, 1, 1, 1, 1, 1, 1, 1])]
)
def test_out_of_memory_measures_fewer_rows_at_once_and_the_same(t5_folder, monkeypatch, caplog, most, tried):
    model = make_model(t5_folder)
    expected = measure(t5_folder, model, 7, 8)
    tries = limit(monkeypatch, most)
    assert measure(t5_folder, model, 7, 8) == pytest.approx(expected, rel=1e-6)
    assert tries == tried
    assert ("evaluation: out of memory" in caplog.text) == (most < 7)


@pytest.mark.parametrize(("count", "size"), [(7, 8), (1, 8), (1, 1), (2, 4)])
def test_one_row_that_does_not_fit_is_told_with_its_tokens(t5_folder, monkeypatch, count, size):
    limit(monkeypatch, 0)
    longest = max(len(row["input_ids"]) + len(row["labels"]) for row in rows(count, causal=False))
    with pytest.raises(OutOfMemory, match=f"^evaluation: one row of {longest} tokens does not fit. Set MAX_SOURCE_LENGTH"):
        measure(t5_folder, make_model(t5_folder), count, size)
