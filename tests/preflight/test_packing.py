"""Packed rows are compared with the model as it was loaded, and why they are not taken is said; on a GPU the clock decides too."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, GptOssConfig, GptOssForCausalLM, LongT5Config, LongT5ForConditionalGeneration, MistralConfig
from transformers import MistralForCausalLM as Mistral

from job.model import packed_attention
from job.model.packed_attention import accept_packed
from job.model.packing import accepts_packed, is_packed
from job.preflight import packing, rows_alone
from job.preflight.packing import packing_is_faster, why_padded
from tests.preflight.material import alone
from tests.tiny_models import adapted, load, rows

SIZES = {
    "vocab_size": 384, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
SEEN = "packed rows are not what padded rows are (loss "


def reason(model, folder, causal: bool) -> str | None:
    return why_padded(alone(model, Dataset.from_list(rows(causal)), AutoTokenizer.from_pretrained(folder)))


def with_adapter(base):
    """In the job's types: the base as it is, the adapter in float32."""
    model = adapted(base, base.dtype)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def gpt_oss(dtype: torch.dtype):
    """With sinks that matter, and a window that no row is longer than."""
    torch.manual_seed(0)
    config = GptOssConfig(**SIZES, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=128)
    model = GptOssForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(3.0) if "sinks" in name else parameter.mul_(3)
    return with_adapter(model.to(dtype))


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_t5s_and_causal_models_are_packed_and_left_as_they_were(kind, dtype, request):
    folder = request.getfixturevalue(kind)
    model = with_adapter(load(folder, dtype)).train()
    assert {parameter.dtype for parameter in model.parameters()} == {dtype, torch.float32}
    assert reason(model, folder, "llama" in kind) is None
    assert model.training
    assert not accepts_packed(model)


def let_rows_see_each_other(monkeypatch) -> None:
    """The mask of the whole pack instead of that of its rows: one row of all tokens."""

    def whole(rows, source):
        return SimpleNamespace(rows=one_row(rows), source=one_row(source), attended=True)

    def one_row(rows):
        tokens = len(rows.slots)
        return type(rows)(torch.ones(1, tokens, dtype=torch.bool), torch.arange(tokens))

    monkeypatch.setattr(packed_attention, "PackedStack", whole)


def test_rows_that_see_each_other_are_noticed(llama_folder, monkeypatch):
    let_rows_see_each_other(monkeypatch)
    assert reason(adapted(load(llama_folder)), llama_folder, causal=True).startswith(SEEN)


@pytest.mark.parametrize("length", [100, 500])
def test_short_rows_that_a_long_one_sees_are_noticed_where_half_precision_alone_is_compared(llama_folder, monkeypatch, length):
    """As of a sharded base. Every token of the long row is in the loss, one of each short one: they hardly count."""
    lengths = [length] + [30 + place for place in range(9)]
    made = [
        {"input_ids": torch.randint(3, 380, (tokens,)).tolist(), "labels": [-100] * (tokens - 1) + [9], "length": tokens}
        for tokens in lengths
    ]
    model = with_adapter(load(llama_folder, torch.bfloat16))
    asked = alone(model, Dataset.from_list(made), AutoTokenizer.from_pretrained(llama_folder))
    monkeypatch.setattr(packing, "is_sharded", lambda _: True)
    assert why_padded(asked) is None
    let_rows_see_each_other(monkeypatch)
    assert why_padded(asked).startswith(SEEN)


def test_positions_that_run_on_from_row_to_row_are_noticed(llama_folder, monkeypatch):
    collate = packing.PackingCollator.__call__

    def run_on(self, rows):
        batch = collate(self, rows)
        return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None] * 3}

    monkeypatch.setattr(packing.PackingCollator, "__call__", run_on)
    assert reason(adapted(load(llama_folder)), llama_folder, causal=True).startswith(SEEN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinks_are_packed_with_the_models_own_attention(llama_folder, dtype):
    assert reason(gpt_oss(dtype), llama_folder, causal=True) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinks_that_packed_rows_leave_out_are_noticed(llama_folder, monkeypatch, dtype):
    """As it was when both sides ran with SDPA, which swallows them: in bf16 nothing else says so."""
    sdpa = packed_attention.sdpa_attention_forward
    monkeypatch.setattr(packed_attention, "own_attention", lambda module, name: sdpa)
    monkeypatch.setattr(packed_attention, "row_mask", lambda make_mask, **form: None)
    assert reason(gpt_oss(dtype), llama_folder, causal=True).startswith(SEEN)


@pytest.mark.parametrize(("window", "asked"), [(8, 8), (64, 64)])
def test_a_window_that_rows_are_longer_than_is_packed(llama_folder, window, asked):
    torch.manual_seed(0)
    assert reason(adapted(Mistral(MistralConfig(**SIZES, sliding_window=window))), llama_folder, causal=True) is None


def test_a_window_that_packed_rows_leave_out_is_noticed(llama_folder, monkeypatch):
    torch.manual_seed(0)
    model = adapted(Mistral(MistralConfig(**SIZES, sliding_window=8)))
    monkeypatch.setattr(packed_attention, "row_mask", lambda make_mask, **form: None)
    assert reason(model, llama_folder, causal=True).startswith(SEEN)


def test_what_overflows_packed_in_half_precision_alone_is_noticed(llama_folder, monkeypatch):
    gather = packed_attention.PackedRows.gather
    monkeypatch.setattr(
        packed_attention.PackedRows, "gather",
        lambda self, grid: gather(self, grid) * (1.5 if grid.dtype == torch.bfloat16 else 1),
    )  # fmt: skip
    model = adapted(load(llama_folder))
    assert reason(model, llama_folder, causal=True) is None
    model = with_adapter(load(llama_folder, torch.bfloat16))
    assert reason(model, llama_folder, causal=True).startswith(SEEN)


def test_an_attention_that_transformers_does_not_let_be_replaced_is_the_reason(t5_folder):
    torch.manual_seed(0)
    config = LongT5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0)
    model = adapted(LongT5ForConditionalGeneration(config))
    assert reason(model, t5_folder, causal=False) == packed_attention.OWN_ATTENTION
    assert not accepts_packed(model)


def test_an_error_of_packed_rows_is_the_reason_in_one_line(llama_folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise ValueError("no such mask\nand more")

    monkeypatch.setattr(packed_attention, "row_mask", refuse)
    packed_attention_of = packed_attention.PackedRows.spread
    monkeypatch.setattr(packed_attention.PackedRows, "spread", refuse)
    found = reason(adapted(load(llama_folder)), llama_folder, causal=True)
    monkeypatch.setattr(packed_attention.PackedRows, "spread", packed_attention_of)
    assert found in (packed_attention.OWN_ATTENTION, "it takes no packed rows (ValueError: no such mask)")


def measured_by(monkeypatch, function) -> None:
    """Makes `function` measure rows, alone and packed."""
    monkeypatch.setattr(rows_alone, "loss_and_gradient", function)


def shapes(model, monkeypatch) -> list[tuple[int, int]]:
    """Rows and tokens of each batch of inputs that why_padded measures."""
    measure, tried = rows_alone.loss_and_gradient, []

    def looking(model, batch, *given):
        tried.append(tuple(batch["input_ids"].shape))
        return measure(model, batch, *given)

    measured_by(monkeypatch, looking)
    assert reason(model, model.folder, causal=False) is None
    return tried


def test_the_rows_are_measured_alone_without_padding_then_packed(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    model.folder = t5_folder
    assert shapes(model, monkeypatch) == [(1, 31), (1, 18), (1, 5), (1, 31 + 18 + 5)]


def test_rows_in_int8_which_rounds_them_by_their_batch_are_compared_in_one_batch(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    model.folder, model.get_base_model().is_loaded_in_8bit = t5_folder, True
    assert shapes(model, monkeypatch) == [(3, 32), (1, 31 + 18 + 5)]


def test_the_faster_way_is_found_by_the_clock(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    accept_packed(model.get_base_model())
    data, tokenizer = Dataset.from_list(rows(causal=False)), AutoTokenizer.from_pretrained(t5_folder)
    for slow, expected in ((1.0, True), (1 / 9, False)):  # seconds of a padded round; a packed one takes a third
        times = iter([moment for _ in range(4) for moment in (0.0, slow, 0.0, 1 / 3)])
        monkeypatch.setattr("job.preflight.packing.time.perf_counter", lambda times=times: next(times))
        assert packing_is_faster(model, data, tokenizer, 2) is expected
    assert all(parameter.grad is None for parameter in model.parameters())


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("injected")


def test_where_all_telling_rows_do_not_fit_at_once_two_do(t5_folder, monkeypatch):
    measure, tried = packing.measure, []

    def small_memory(model, batch, wide):
        tried.append(len(batch["attention_mask"]))
        return out_of_memory() if tried[-1] > 2 else measure(model, batch, wide)

    monkeypatch.setattr(packing, "measure", small_memory)
    assert reason(adapted(load(t5_folder)), t5_folder, causal=False) is None
    assert tried == [3, 2]


def long_rows(length: int) -> Dataset:
    """Five different rows; the longest input has so many tokens, the longest answer half."""
    sizes = [(length, 4), (9, length // 2), (7, 5), (5, 3), (6, 6)]
    made = [{"input_ids": [5 + size[0] % 300] * size[0], "labels": [7] * size[1], "length": sum(size)} for size in sizes]
    return Dataset.from_list(made)


def test_rows_that_do_not_fit_are_cut_until_they_do_and_packing_is_not_lost(t5_folder, monkeypatch):
    """128 tokens at the most, of which half fit the memory."""
    measure, tried = rows_alone.loss_and_gradient, []

    def small_memory(model, batch, objective, *within):
        tried.append(batch["input_ids"].numel())
        return out_of_memory() if tried[-1] > 100 else measure(model, batch, objective, *within)

    measured_by(monkeypatch, small_memory)
    model, tokenizer = adapted(load(t5_folder)), AutoTokenizer.from_pretrained(t5_folder)
    assert why_padded(alone(model, long_rows(128), tokenizer)) is None
    assert tried == [128, 128, 64, 5, 64 + 5], "three rows, two, then these half as long: alone, and packed"


def test_where_float32_does_not_fit_at_any_length_the_type_of_the_weights_alone_decides(t5_folder, monkeypatch):
    types = []
    measure = rows_alone.loss_and_gradient

    def small_memory(model, batch, objective, *within):
        types.append(model.get_encoder().final_layer_norm.weight.dtype)
        return out_of_memory() if types[-1] == torch.float32 else measure(model, batch, objective, *within)

    measured_by(monkeypatch, small_memory)
    model = with_adapter(load(t5_folder, torch.bfloat16))
    assert why_padded(alone(model, long_rows(64), AutoTokenizer.from_pretrained(t5_folder))) is None
    assert types == [torch.float32] * 4 + [torch.bfloat16] * 3


def test_rows_that_fit_at_no_length_are_padded_and_a_warning_says_why(t5_folder, monkeypatch, caplog):
    measured_by(monkeypatch, out_of_memory)
    model = adapted(load(t5_folder)).train()
    assert reason(model, t5_folder, causal=False) == "whether packed ones are the same could not be computed"
    assert model.training, "as it was"
    assert caplog.messages[-1] == "packing: two rows of 16 tokens do not fit the memory beside the model"


@pytest.mark.parametrize("message", ["CUDA error: an illegal memory access was encountered", "CUDA error: device-side assert"])
def test_a_card_that_fails_is_never_taken_for_a_model_that_takes_no_packed_rows(t5_folder, monkeypatch, message):
    def fail(*_: object) -> None:
        raise torch.AcceleratorError(message)

    monkeypatch.setattr("job.preflight.packing.PackingCollator", fail)
    with pytest.raises(torch.AcceleratorError, match=message):
        reason(adapted(load(t5_folder)), t5_folder, causal=False)


def test_padded_rows_that_do_not_fit_where_packed_ones_may_are_packed(t5_folder, monkeypatch):
    model = adapted(load(t5_folder))
    accept_packed(model.get_base_model())
    monkeypatch.setattr("job.preflight.packing._time", out_of_memory)
    assert packing_is_faster(model, Dataset.from_list(rows(causal=False)), AutoTokenizer.from_pretrained(t5_folder), 2)


def measure_as(monkeypatch, alone: tuple, packed: tuple) -> None:
    """Makes this be what a row has alone, and what a pack has."""
    measured_by(monkeypatch, lambda model, batch, *_: packed if is_packed(batch) else alone)


@pytest.mark.parametrize(("off", "exact"), [(0.5e-4, True), (2e-4, False)])
def test_a_loss_that_is_off_by_more_than_float32_rounds_is_not_exact(t5_folder, monkeypatch, off, exact):
    gradient = torch.ones(3)
    measure_as(monkeypatch, alone=(2.0, gradient), packed=(2.0 * (1 + off), gradient))
    assert (reason(adapted(load(t5_folder)), t5_folder, causal=False) is None) is exact


@pytest.mark.parametrize(("loss", "gradient", "exact"), [(0.0, 0.0, True), (1e-3, 0.0, False), (0.0, 1e-3, False)])
def test_a_loss_and_a_gradient_of_0_can_be_compared(t5_folder, monkeypatch, loss, gradient, exact):
    measure_as(monkeypatch, alone=(0.0, torch.zeros(3)), packed=(loss, torch.full((3,), gradient)))
    assert (reason(adapted(load(t5_folder)), t5_folder, causal=False) is None) is exact


@pytest.mark.parametrize(("turned", "exact"), [(0.5e-3, True), (2e-3, False), (float("nan"), False)])
def test_a_gradient_that_is_off_by_more_than_float32_rounds_is_not_exact(t5_folder, monkeypatch, turned, exact):
    measure_as(monkeypatch, alone=(2.0, torch.ones(3)), packed=(2.0, torch.ones(3) * (1 + turned)))
    assert (reason(adapted(load(t5_folder)), t5_folder, causal=False) is None) is exact


def test_a_layer_that_looks_along_the_pack_is_noticed_by_measurement_too(llama_folder):
    """As state-space layers do that do not say so."""

    class LooksBack(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.norm = norm

        def forward(self, hidden):
            return self.norm(hidden) + 0.1 * hidden.cumsum(1).roll(1, 1).tanh()

    base = load(llama_folder)
    base.model.layers[0].input_layernorm = LooksBack(base.model.layers[0].input_layernorm)
    assert reason(adapted(base), llama_folder, causal=True).startswith(SEEN)
