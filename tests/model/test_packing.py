"""Rows packed one after another give the loss and the gradient that padded rows give."""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

from job.model.checkpointing import checkpoint_blocks
from job.model.lora import add_lora
from job.model.loss import count_labels, summed_cross_entropy
from job.model.packing import PackingCollator, accept_packed, can_pack, model_inputs

LENGTHS = [(31, 7), (5, 12), (18, 1), (1, 4)]


def rows(seq2seq: bool) -> list[dict]:
    torch.manual_seed(3)
    made = []
    for source, target in LENGTHS:
        source_ids = torch.randint(3, 200, (source,)).tolist()
        target_ids = torch.randint(3, 200, (target,)).tolist()
        if seq2seq:
            made.append({"input_ids": source_ids, "labels": target_ids})
        else:
            made.append({"input_ids": source_ids + target_ids, "labels": [-100] * source + target_ids})
    return made


@pytest.fixture(params=["t5", "llama"])
def built(request, t5_folder, llama_folder):
    """Makes a model with an adapter that does something, of the wanted type, and its tokenizer: (model, tokenizer)."""

    def build(dtype: torch.dtype):
        seq2seq = request.param == "t5"
        folder = t5_folder if seq2seq else llama_folder
        auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
        base = auto.from_pretrained(folder, dtype=dtype).requires_grad_(False)
        targets = ["q", "v"] if seq2seq else ["q_proj", "v_proj"]
        torch.manual_seed(1)
        config = LoraConfig(
            task_type="SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM", r=4, target_modules=targets, init_lora_weights=False
        )
        return add_lora(base, config).to(dtype), AutoTokenizer.from_pretrained(folder)

    return build


def loss_and_gradient(model, inputs, labels):
    shift = not model.config.is_encoder_decoder
    model.zero_grad()
    loss = summed_cross_entropy(model(**inputs).logits, labels, shift) / count_labels(labels, shift)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("checkpointed", [0, 3])
def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(built, checkpointed):
    model, tokenizer = built(torch.float64)
    data = rows(model.config.is_encoder_decoder)
    checkpoint_blocks(model, checkpointed)
    padded = dict(DataCollatorForSeq2Seq(tokenizer, model=model)(data))
    labels = padded.pop("labels")
    expected_loss, expected = loss_and_gradient(model, padded, labels)
    accept_packed(model.get_base_model())
    packed = PackingCollator(model)(data)
    loss, gradient = loss_and_gradient(model, model_inputs(packed), packed["labels"])
    assert abs(loss - expected_loss) < 1e-10
    assert (gradient - expected).norm() < 1e-10 * expected.norm()


def test_a_model_that_takes_packed_rows_still_takes_padded_ones(built):
    model, tokenizer = built(torch.float64)
    padded = dict(DataCollatorForSeq2Seq(tokenizer, model=model)(rows(model.config.is_encoder_decoder)))
    labels = padded.pop("labels")
    expected, _ = loss_and_gradient(model, padded, labels)
    accept_packed(model.get_base_model())
    assert loss_and_gradient(model, padded, labels)[0] == pytest.approx(expected, abs=1e-12)


def test_ten_steps_on_packed_rows_are_ten_steps_on_padded_ones(built):
    losses = []
    for is_packed in (False, True):
        model, tokenizer = built(torch.float32)
        data = rows(model.config.is_encoder_decoder)
        batch = dict(DataCollatorForSeq2Seq(tokenizer, model=model)(data))
        labels, inputs = batch.pop("labels"), batch
        if is_packed:
            accept_packed(model.get_base_model())
            packed = PackingCollator(model)(data)
            labels, inputs = packed["labels"], model_inputs(packed)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(10):
            loss, _ = loss_and_gradient(model, inputs, labels)
            optimizer.step()
        losses.append(loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_other_encoder_decoders_are_not_packed():
    from transformers import BartConfig, LlamaConfig, MT5Config, UMT5Config

    assert [can_pack(config()) for config in (BartConfig, UMT5Config, MT5Config, LlamaConfig)] == [False, False, True, True]
