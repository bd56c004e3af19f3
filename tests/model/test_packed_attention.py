"""For each family that packs: loss and gradient of packed rows are those of the plain library, a row at a time and padded."""

import pytest
import torch
import transformers as t
from peft import LoraConfig
from transformers.models.t5gemma2.configuration_t5gemma2 import T5Gemma2Config

from job.model.checkpointing import checkpoint_blocks, transformer_blocks
from job.model.lora import add_lora
from job.model.loss import summed_cross_entropy
from job.model.packed_attention import OWN_ATTENTION, CannotPack, accept_packed
from job.model.packing import PackingCollator, accepts_packed, model_inputs, padding_collator
from job.model.patches import attention_implementation
from tests.tiny_models import rows

LIVELIER = 4
"""What weights are multiplied by, or attention would be the same for all places."""
WINDOW = 8
"""Rows are longer: the longest has 31 tokens, 38 with its answer."""
T5 = {
    "vocab_size": 384, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    "dropout_rate": 0.0, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
BART = {
    "vocab_size": 384, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 40, "dropout": 0.0,
    "attention_dropout": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
CAUSAL = {
    "vocab_size": 384, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip
GEMMA = CAUSAL | {"head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": WINDOW,
                  "layer_types": ["sliding_attention", "full_attention"]}  # fmt: skip
FALCON = {"vocab_size": 384, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "alibi": True}
OPT = {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 40, "dropout": 0.0}


def t5gemma():
    module = t.T5GemmaModuleConfig(**GEMMA, dropout_rate=0.0)
    config = t.T5GemmaConfig(encoder=module, decoder=module, vocab_size=384, dropout_rate=0.0)
    return t.T5GemmaForConditionalGeneration(config)


def t5gemma2():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    encoder = {"text_config": GEMMA, "vision_config": sizes | {"image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 4}
    config = T5Gemma2Config(encoder=encoder, decoder=GEMMA, eoi_token_index=382, image_token_index=383, dropout_rate=0.0)
    return t.T5Gemma2ForConditionalGeneration(config)


def gpt_oss():
    """Its sinks as large as in trained ones; torch multiplies experts grouped in float32 at most."""
    model = t.GptOssForCausalLM(t.GptOssConfig(**GEMMA, num_local_experts=4, num_experts_per_tok=2))
    model.set_experts_implementation("eager")
    for layer in model.model.layers:
        layer.self_attn.sinks.data.fill_(3.0 / LIVELIER)
    return model


FAMILIES = {
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**T5)),
    "mt5": lambda: t.MT5ForConditionalGeneration(t.MT5Config(**T5)),
    "umt5": lambda: t.UMT5ForConditionalGeneration(t.UMT5Config(**T5)),
    "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**BART)),
    "mbart": lambda: t.MBartForConditionalGeneration(t.MBartConfig(**BART)),
    "pegasus": lambda: t.PegasusForConditionalGeneration(t.PegasusConfig(**BART)),
    "marian": lambda: t.MarianMTModel(t.MarianConfig(**BART)),
    "m2m_100": lambda: t.M2M100ForConditionalGeneration(t.M2M100Config(**BART)),
    "blenderbot": lambda: t.BlenderbotForConditionalGeneration(t.BlenderbotConfig(**BART)),
    "t5gemma": t5gemma,
    "t5gemma2": t5gemma2,
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**CAUSAL)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**CAUSAL, sliding_window=WINDOW)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**GEMMA)),
    "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GEMMA)),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2, n_positions=40, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    ),
    "opt": lambda: t.OPTForCausalLM(t.OPTConfig(**CAUSAL | OPT)),
    "gpt_oss": gpt_oss,
}


def adapted(name: str, dtype: torch.dtype):
    torch.manual_seed(0)
    base = FAMILIES[name]().to(dtype).requires_grad_(False)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(LIVELIER)
    kind = "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM"
    torch.manual_seed(1)
    return add_lora(base, LoraConfig(task_type=kind, r=2, target_modules="all-linear", init_lora_weights=False)).to(dtype)


def data_of(model) -> list[dict]:
    return [{name: row[name] for name in ("input_ids", "labels")} for row in rows(not model.config.is_encoder_decoder)]


def summed(model, inputs: dict, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The loss and its gradient."""
    model.zero_grad(set_to_none=True)
    loss = summed_cross_entropy(model(**inputs).logits, labels, shift=not model.config.is_encoder_decoder)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def a_row_at_a_time(name: str, model, data: list[dict]) -> tuple[float, torch.Tensor]:
    """Of the plain library without padding, masks or positions."""
    total, gradient = 0.0, 0.0
    for row in data:
        inputs, labels = {"input_ids": torch.tensor([row["input_ids"]])}, row["labels"]
        if model.config.is_encoder_decoder:
            start = 0 if "t5" in name and "gemma" not in name else 2
            inputs["decoder_input_ids"] = torch.tensor([[start, *labels[:-1]]])
        loss, part = summed(model, inputs, torch.tensor([labels]))
        total, gradient = total + loss, gradient + part
    return total, gradient


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_loss_and_gradient_of_rows_one_at_a_time(name):
    """Gemmas with capped scores compute their attention in float32 whatever comes in."""
    dtype, tolerance = (torch.float32, 1e-4) if name in ("t5gemma", "gemma2") else (torch.float64, 1e-10)
    model = adapted(name, dtype).train()
    data = data_of(model)
    expected_loss, expected = a_row_at_a_time(name, model, data)
    undo = accept_packed(model.get_base_model())
    packed = PackingCollator(model)(data)
    assert packed["input_ids"].shape == (1, sum(len(row["input_ids"]) for row in data))
    for checkpointed in (0, 99):
        checkpoint_blocks(model.get_base_model(), checkpointed)
        assert any(block.gradient_checkpointing for block in transformer_blocks(model)) is (checkpointed > 0)
        loss, gradient = summed(model, model_inputs(packed), packed["labels"])
        assert loss == pytest.approx(expected_loss, rel=tolerance)
        assert (gradient - expected).norm() < tolerance * expected.norm()
    undo()
    assert not accepts_packed(model)
    assert a_row_at_a_time(name, model, data)[0] == pytest.approx(expected_loss, rel=tolerance), "the model is as it was"


def test_a_change_that_fails_midway_leaves_none_of_the_earlier_ones(monkeypatch):
    model = adapted("t5", torch.float32).get_base_model()
    before = attention_implementation(model), [vars(module).get("forward") for module in model.modules()]

    def fail(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr("job.model.packed_attention.replace_bias", fail)
    with pytest.raises(RuntimeError, match="injected"):
        accept_packed(model)
    assert (attention_implementation(model), [vars(module).get("forward") for module in model.modules()]) == before
    assert not accepts_packed(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_that_takes_packed_rows_computes_padded_ones_as_before(name, tokenizer):
    model = adapted(name, torch.float32).eval()
    padded = dict(padding_collator(model, tokenizer)(data_of(model)))
    labels = padded.pop("labels")
    expected_loss, expected = summed(model, padded, labels)
    accept_packed(model.get_base_model())
    loss, gradient = summed(model, padded, labels)
    assert loss == expected_loss
    assert torch.equal(gradient, expected)


def test_a_model_that_takes_packed_rows_answers_as_before(tokenizer):
    for name in ("umt5", "bart", "t5gemma", "t5gemma2", "mistral"):
        model, prompt = adapted(name, torch.float32).eval(), torch.arange(3, 20)[None]
        before = model.generate(input_ids=prompt, max_new_tokens=12, use_cache=True, do_sample=False)
        accept_packed(model.get_base_model())
        assert torch.equal(model.generate(input_ids=prompt, max_new_tokens=12, use_cache=True, do_sample=False), before), name


def test_a_t5_computes_its_bias_for_rows_and_not_for_the_pack(monkeypatch):
    """Else it would have as many entries as the pack has tokens, squared."""
    attention, seen = t.models.t5.modeling_t5.T5Attention, []
    compute = attention.compute_bias
    monkeypatch.setattr(
        attention, "compute_bias", lambda self, *lengths, **rest: seen.append(lengths) or compute(self, *lengths, **rest)
    )
    model = adapted("t5", torch.float32)
    accept_packed(model.get_base_model())
    packed = PackingCollator(model)(data_of(model))
    model(**model_inputs(packed))
    assert seen == [(31, 31), (12, 12)], "of the encoder's first block, and the decoder's"


def test_the_blocks_of_a_t5_share_one_bias_with_its_mask(monkeypatch):
    masks = []
    sdpa = t.integrations.sdpa_attention.sdpa_attention_forward
    model = adapted("t5", torch.float32)

    def own(module, name):
        return lambda module, query, key, value, mask, **rest: masks.append(mask) or sdpa(module, query, key, value, mask, **rest)

    monkeypatch.setattr("job.model.packed_attention.own_attention", own)
    accept_packed(model.get_base_model())
    model(**model_inputs(PackingCollator(model)(data_of(model))))
    assert [tuple(mask.shape) for mask in masks] == [
        (4, 4, 31, 31), (4, 4, 31, 31), (1, 4, 12, 12), (4, 1, 1, 31), (1, 4, 12, 12), (4, 1, 1, 31),
    ]  # fmt: skip
    assert masks[0] is masks[1]
    assert masks[2] is masks[4]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_causal_model_without_a_window_needs_no_mask(name, monkeypatch):
    """What follows a row is behind its last token; without a mask SDPA has its fastest kernels."""
    masks = []
    sdpa = t.integrations.sdpa_attention.sdpa_attention_forward
    monkeypatch.setattr(
        "job.model.packed_attention.own_attention",
        lambda module, name: lambda *given, **rest: masks.append(given[4]) or sdpa(*given, **rest),
    )
    model = adapted(name, torch.float32)
    accept_packed(model.get_base_model())
    model(**model_inputs(PackingCollator(model)(data_of(model))))
    assert masks == [None, None]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: t.MambaForCausalLM(t.MambaConfig(hidden_size=16, num_hidden_layers=1)), "its linear_attention layers look along"),
        (lambda: t.RwkvForCausalLM(t.RwkvConfig(hidden_size=16, num_hidden_layers=2)), "it carries a state"),
        (lambda: t.Lfm2ForCausalLM(t.Lfm2Config(**CAUSAL, layer_types=["conv", "full_attention"])), "its conv layers look along"),
        (
            lambda: t.SwitchTransformersForConditionalGeneration(t.SwitchTransformersConfig(**T5, num_experts=2)),
            r"its experts take 64 tokens \(expert_capacity\)",
        ),
    ],
)
def test_a_model_known_to_mix_rows_is_refused_and_left_as_it_is(make, said):
    model = make()
    before = dict(model.config.to_dict()), attention_implementation(model)
    with pytest.raises(CannotPack, match=said):
        accept_packed(model)
    assert (dict(model.config.to_dict()), attention_implementation(model)) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=384, hidden_size=16, n_layer=1, n_head=2)),
        lambda: t.FalconForCausalLM(
            t.FalconConfig(vocab_size=384, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, alibi=True)
        ),
        lambda: t.LEDForConditionalGeneration(t.LEDConfig(**BART, attention_window=8)),
        lambda: t.PegasusXForConditionalGeneration(t.PegasusXConfig(**BART, block_size=8, num_global_tokens=2)),
        lambda: t.LongT5ForConditionalGeneration(t.LongT5Config(**T5)),
    ],
)
def test_an_attention_that_cannot_be_replaced_is_named_as_the_reason(make):
    """Alibi, blocks and windows of a model's own code. It is noticed at the first packed batch."""
    model = make()
    accept_packed(model)
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in rows(not model.config.is_encoder_decoder)]
    with pytest.raises(Exception) as raised:  # noqa: PT011  whatever the model makes of it
        model(**model_inputs(PackingCollator(model)(data)))
    assert OWN_ATTENTION in (str(raised.value), *getattr(raised.value, "__notes__", ()))


def test_a_tensor_that_attention_is_given_and_rows_have_no_answer_to_is_refused():
    model = adapted("llama", torch.float32)
    accept_packed(model.get_base_model())
    inputs = model_inputs(PackingCollator(model)(data_of(model)))
    model(**inputs, harmless=None, number=3)
    with pytest.raises(CannotPack, match="its attention takes alibi"):
        model(**inputs, alibi=torch.zeros(1, 4, 1, 5))
