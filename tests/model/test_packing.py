"""What a packed batch holds, and that training on packed rows is training on padded ones."""

import pytest
import torch
from transformers import AutoTokenizer

from job.model.loss import summed_cross_entropy
from job.model.packed_attention import accept_packed
from job.model.packing import PackedRows, PackingCollator, collator, is_packed, model_inputs, padding_collator
from tests.tiny_models import adapted, load, rows

TWO_ROWS = [{"input_ids": [5, 6, 7], "labels": [8, 1]}, {"input_ids": [9], "labels": [10, 11, 1]}]


@pytest.fixture(params=["t5", "llama"])
def built(request, t5_folder, llama_folder):
    """A model with an adapter that does something, of each type, and its tokenizer."""
    folder = t5_folder if request.param == "t5" else llama_folder
    return adapted(load(folder)), AutoTokenizer.from_pretrained(folder)


def test_a_packed_batch_of_an_encoder_decoder_has_inputs_and_answers_without_padding(t5_folder):
    batch = PackingCollator(adapted(load(t5_folder)))(TWO_ROWS)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 9]], "attention_mask": [[1, 1, 1], [1, 0, 0]], "slots": [0, 1, 2, 3], "labels": [[8, 1, 10, 11, 1]],
        "decoder_input_ids": [[0, 8, 0, 10, 11]], "decoder_attention_mask": [[1, 1, 0], [1, 1, 1]],
        "decoder_slots": [0, 1, 3, 4, 5], "labelled": [0, 1, 2, 3, 4],
    }  # fmt: skip
    assert next(iter(batch)) == "attention_mask", "the number of rows is read off the first tensor"


def test_a_packed_batch_of_a_causal_model_has_positions_within_rows_and_no_row_answers_for_another(llama_folder):
    data = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9], "labels": [8, 9]}]
    batch = PackingCollator(adapted(load(llama_folder)))(data)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9]], "attention_mask": [[1, 1, 1], [1, 1, 0]], "slots": [0, 1, 2, 3, 4],
        "labels": [[-100, 6, 7, -100, 9]], "position_ids": [[0, 1, 2, 0, 1]], "labelled": [1, 2, 4],
    }  # fmt: skip


def test_of_padded_rows_no_label_of_padding_counts_and_of_a_causal_models_not_a_rows_first(t5_folder, llama_folder):
    for folder, expected in ((t5_folder, [0, 1, 8, 9, 10]), (llama_folder, [1, 9, 10])):
        model = adapted(load(folder))
        batch = padding_collator(model, AutoTokenizer.from_pretrained(folder))(TWO_ROWS)
        assert batch["labels"].shape[1] == 8
        assert batch["labelled"].tolist() == expected


def test_an_encoder_decoder_that_takes_positions_is_given_them_for_both_sides(t5_folder):
    class TakesPositions(type(load(t5_folder))):
        def forward(self, input_ids, position_ids, decoder_position_ids, **rest):  # noqa: ARG002
            return super().forward(input_ids, **rest)

    batch = PackingCollator(TakesPositions(load(t5_folder).config))(TWO_ROWS)
    assert (batch["position_ids"].tolist(), batch["decoder_position_ids"].tolist()) == ([[0, 1, 2, 0]], [[0, 1, 0, 1, 2]])


def test_the_start_of_an_answer_is_the_models_own_even_where_it_has_no_word_for_it(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    monkeypatch.delattr(type(model.get_base_model()), "prepare_decoder_input_ids_from_labels")
    assert PackingCollator(model)(TWO_ROWS)["decoder_input_ids"].tolist() == [[0, 8, 0, 10, 11]]


def test_tokens_spread_over_a_grid_come_back_as_they_were():
    rows = PackedRows(torch.tensor([[True, True, True], [True, False, False]]), torch.tensor([0, 1, 2, 3]))
    packed = torch.arange(1.0, 9).view(1, 4, 2)
    grid = rows.spread_tokens(packed)
    assert grid.tolist() == [[[1, 2], [3, 4], [5, 6]], [[7, 8], [0, 0], [0, 0]]]
    assert torch.equal(rows.gather(grid), packed)
    heads = packed.view(1, 4, 2, 1).transpose(1, 2)
    assert torch.equal(rows.spread(heads), grid.unsqueeze(-1).transpose(1, 2))


def test_a_model_has_the_collator_that_it_was_made_for(built):
    model, tokenizer = built
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in rows(not model.config.is_encoder_decoder)]
    assert not is_packed(collator(model, tokenizer)(data))
    undo = accept_packed(model.get_base_model())
    assert is_packed(collator(model, tokenizer)(data))
    undo()
    assert not is_packed(collator(model, tokenizer)(data))


def test_ten_steps_on_packed_rows_are_ten_steps_on_padded_ones(built):
    model, tokenizer = built
    shift = not model.config.is_encoder_decoder
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in rows(shift)]
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = []
    for collate in (padding_collator(model, tokenizer), PackingCollator(model)):
        batch = collate(data)
        if is_packed(batch):
            accept_packed(model.get_base_model())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(start[name])
        optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-3)
        for _ in range(10):
            optimizer.zero_grad()
            labels = batch["labels"]
            loss = summed_cross_entropy(model(**model_inputs(batch)).logits, labels, shift) / len(batch["labelled"])
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
