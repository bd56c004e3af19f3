"""The chunked loss is the plain one; packing is taken only where it is exact."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from job.model import objective
from job.model.lora import add_lora
from job.model.loss import summed_cross_entropy
from job.model.objective import Objective, frozen_last_head
from job.model.packing import PACKED, accept_packed, can_pack, padding_collator
from job.training.packing_check import packing_is_exact, packing_is_faster

LENGTHS = [(31, 7), (5, 12), (18, 3), (9, 4)]


def rows(causal: bool) -> list[dict]:
    generator = torch.Generator().manual_seed(3)
    made = []
    for source_length, target_length in LENGTHS:
        source, target = (
            torch.randint(3, 380, (length,), generator=generator).tolist() for length in (source_length, target_length)
        )
        both = {"input_ids": source + target, "labels": [-100] * source_length + target}
        texts = {"input": "text", "ground_truth": "text"}
        made.append(
            (both if causal else {"input_ids": source, "labels": target}) | texts | {"length": source_length + target_length}
        )
    return made


def adapted(base, dtype: torch.dtype = torch.float32, **options):
    torch.manual_seed(1)
    seq2seq = base.config.is_encoder_decoder
    targets, kind = (["q", "v"], "SEQ_2_SEQ_LM") if seq2seq else (["q_proj", "v_proj"], "CAUSAL_LM")
    config = LoraConfig(task_type=kind, r=4, target_modules=targets, init_lora_weights=False, **options)
    return add_lora(base.requires_grad_(False), config).to(dtype)


def load(folder, dtype: torch.dtype = torch.float32):
    auto = AutoModelForSeq2SeqLM if "t5" in folder.name else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=dtype)


def gradient_of(model, loss) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten().float() for parameter in model.parameters() if parameter.grad is not None])


def losses_and_gradients(model, folder):
    """Of the objective, and of the library's logits: each (loss, gradient)."""
    causal = not model.config.is_encoder_decoder
    names = ("input_ids", "labels")
    batch = padding_collator(model, AutoTokenizer.from_pretrained(folder))(
        [{name: row[name] for name in names} for row in rows(causal)]
    )
    loss = Objective(model)(model, batch)
    found = loss.item(), gradient_of(model, loss)
    logits = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
    expected = summed_cross_entropy(logits, batch["labels"], causal)
    return found, (expected.item(), gradient_of(model, expected))


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("tokens", [1, 5, 1000])
def test_the_loss_in_chunks_is_the_loss_of_all_logits(kind, tokens, request, monkeypatch):
    folder = request.getfixturevalue(kind)
    model = adapted(load(folder, torch.float64), torch.float64)
    monkeypatch.setattr(objective, "CHUNK_BYTES", 4 * model.config.vocab_size * tokens)
    (loss, gradient), (expected_loss, expected) = losses_and_gradients(model, folder)
    assert loss == pytest.approx(expected_loss, abs=1e-10)
    assert (gradient - expected).norm() < 1e-7 * expected.norm()  # compared in float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_in_half_precision_is_no_worse_than_that_of_all_logits(t5_folder, dtype):
    _, (_, exact) = losses_and_gradients(adapted(load(t5_folder)), t5_folder)
    (_, chunked), (_, whole) = losses_and_gradients(adapted(load(t5_folder, dtype), dtype), t5_folder)
    assert (chunked - exact).norm() < 1.1 * (whole - exact).norm()


def test_all_logits_in_float32_are_never_there(t5_folder, monkeypatch):
    folder, widths = t5_folder, []
    monkeypatch.setattr(objective, "CHUNK_BYTES", 4 * 400 * 3)
    original = nn.functional.nll_loss
    monkeypatch.setattr(
        objective.F, "nll_loss", lambda logits, *rest, **kwargs: widths.append(len(logits)) or original(logits, *rest, **kwargs)
    )
    losses_and_gradients(adapted(load(folder)), folder)
    labels = sum(target for _, target in LENGTHS)
    assert sum(widths[: -(-labels // 3)]) == labels
    assert max(widths) <= 3


def test_an_evaluation_computes_no_gradient_and_the_same_loss(t5_folder, monkeypatch):
    hidden, labels = torch.randn(7, 32, requires_grad=True), torch.arange(7)
    head = load(t5_folder).lm_head.requires_grad_(False)
    expected = objective.chunked_cross_entropy(hidden, labels, head)
    monkeypatch.setattr(torch.Tensor, "exp_", None)
    with torch.no_grad():
        assert torch.equal(objective.chunked_cross_entropy(hidden.detach(), labels, head), expected)


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_a_frozen_head_that_comes_last_is_found(kind, request):
    model = adapted(load(request.getfixturevalue(kind)))
    assert frozen_last_head(model) is model.get_output_embeddings()
    assert "forward" not in vars(model.get_output_embeddings())


def test_a_head_that_is_trained_sees_all_logits(t5_folder):
    assert frozen_last_head(adapted(load(t5_folder), modules_to_save=["lm_head"])) is None


@pytest.mark.parametrize("alter", ["capped", "scaled", "shifted"])
def test_a_head_whose_output_is_altered_sees_all_logits(llama_folder, alter):
    model = adapted(load(llama_folder))
    change = {
        "capped": lambda logits: 30 * torch.tanh(logits / 30),
        "scaled": lambda logits: logits * 2,
        "shifted": lambda logits: logits + torch.zeros(logits.shape[-1]).fill_(0.5),
    }[alter]

    def after(_module, _args, output):
        output.logits = change(output.logits)
        return output

    model.get_base_model().register_forward_hook(after)
    assert frozen_last_head(model) is None


def packs_exactly(model, folder, causal: bool) -> bool:
    accept_packed(model.get_base_model())
    return packing_is_exact(model, Dataset.from_list(rows(causal)), AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packing_is_exact_for_t5_and_causal_models(kind, dtype, request):
    folder = request.getfixturevalue(kind)
    assert packs_exactly(adapted(load(folder, dtype)), folder, "llama" in kind)


def test_rows_that_see_each_other_are_noticed(t5_folder, monkeypatch, caplog):
    model = adapted(load(t5_folder))
    monkeypatch.setattr("job.model.packing._row_biases", lambda block, kwargs: None)
    assert not packs_exactly(model, t5_folder, causal=False)
    assert "PADDING_FREE: " in caplog.text
    assert "is trained with padding" in caplog.text


def test_a_sliding_window_that_rows_are_longer_than_is_noticed(tmp_path, llama_folder, caplog):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        sliding_window=8, pad_token_id=0,
    )  # fmt: skip
    assert not packs_exactly(adapted(MistralForCausalLM(config)), llama_folder, causal=True)
    assert "packed rows are not what padded rows are for mistral" in caplog.text
    config.sliding_window = 64
    assert packs_exactly(adapted(MistralForCausalLM(config)), llama_folder, causal=True)


def test_other_encoder_decoders_are_not_packed():
    from transformers import BartConfig, LlamaConfig, MT5Config, UMT5Config

    assert [can_pack(config()) for config in (BartConfig, UMT5Config, MT5Config, LlamaConfig)] == [False, False, True, True]


def test_the_faster_way_is_found_by_the_clock(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    accept_packed(model.get_base_model())
    assert model.config._attn_implementation == PACKED
    data, tokenizer = Dataset.from_list(rows(causal=False)), AutoTokenizer.from_pretrained(t5_folder)
    for slow, expected in ((1.0, True), (1 / 9, False)):  # seconds of a padded round; a packed one takes a third
        times = iter([moment for _ in range(4) for moment in (0.0, slow, 0.0, 1 / 3)])
        monkeypatch.setattr("job.training.packing_check.time.perf_counter", lambda times=times: next(times))
        assert packing_is_faster(model, data, tokenizer, 2) is expected
    assert all(parameter.grad is None for parameter in model.parameters())
