"""The check of the type: what it takes for float32 is float32, and what it rejects is wrong."""

import copy

import pytest
import torch
import transformers
from bitsandbytes.nn import Linear8bitLt
from peft import LoraConfig
from transformers import BatchEncoding, LlamaForCausalLM, T5Config, T5ForConditionalGeneration, T5PreTrainedModel
from transformers.models.t5gemma2.configuration_t5gemma2 import T5Gemma2Config

from job.config.libraries import weight_format
from job.errors import Diverged
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.model.objective import Objective
from job.model.packing import model_inputs
from job.preflight import rows_alone as alone_module
from job.preflight.full_precision import in_float32
from job.preflight.precision import check_precision
from job.preflight.rows_alone import Alone, loss_and_gradient

ROW = {"input_ids": [*range(3, 19)], "labels": [*range(40, 56)]}
BATCH = BatchEncoding({
    "input_ids": torch.tensor([ROW["input_ids"]]),
    "attention_mask": torch.ones(1, 16, dtype=torch.long),
    "labels": torch.tensor([ROW["labels"]]),
})  # fmt: skip
CAUSAL_BATCH = BatchEncoding(BATCH | {"labelled": torch.arange(1, 16)})
T5_BATCH = BatchEncoding(
    BATCH
    | {
        "decoder_input_ids": torch.cat([torch.zeros(1, 1, dtype=torch.long), BATCH["labels"][:, :-1]], 1),
        "labelled": torch.arange(16),
    }
)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """Folders of T5s whose feed-forwards put out little, more than float16 holds in `wo`, and more than that in their middle."""
    config = T5Config(
        vocab_size=400, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu", dropout_rate=0.1,
        decoder_start_token_id=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("probe")
    for name, wi, wo in (("plain", 1, 1), ("wo", 150, 2000), ("middle", 3e5, 1)):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.mul_({"wi_1.weight": wi, "wo.weight": wo}.get(key.split("DenseReluDense.")[-1], 1))
        model.save_pretrained(folder / name)
    return folder


def adapted(folder, precision: str, quantization: str = "none"):
    torch.manual_seed(1)
    seq2seq = not (folder / "config.json").read_text().count("LlamaForCausalLM")
    kind, targets = ("SEQ_2_SEQ_LM", ["q", "v"]) if seq2seq else ("CAUSAL_LM", ["q_proj", "v_proj"])
    base = load_base(BaseModel(str(folder)), seq2seq, *weight_format(precision, quantization), "cpu")
    return add_lora(base, LoraConfig(task_type=kind, target_modules=targets, r=4, lora_dropout=0.1))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """What a tensor holds: NF4 weights are no numbers, and NaN is not equal to itself."""
    return tensor.reshape(-1).contiguous().view(torch.uint8)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("kind", ["plain", "wo"])
def test_what_is_sound_passes_and_the_model_is_as_it_was(t5, precision, quantization, kind, tokenizer):
    model = adapted(t5 / kind, precision, quantization).train()
    before = {name: (tensor.dtype, tensor.clone()) for name, tensor in model.state_dict().items() if torch.is_tensor(tensor)}
    check_precision(Alone(model, [ROW], tokenizer))
    after = model.state_dict()
    assert all(
        after[name].dtype == dtype and torch.equal(bits(after[name]), bits(tensor)) for name, (dtype, tensor) in before.items()
    )
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["t5", "llama"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_in_float32_a_half_model_computes_what_a_float32_model_of_the_same_weights_does(request, kind, precision):
    """Against the model cast to float32 by torch itself; T5 would round what goes into `wo` to the type of its weights."""
    folder = request.getfixturevalue(f"{kind}_folder")
    narrow = adapted(folder, precision).eval()
    wide = (T5ForConditionalGeneration if kind == "t5" else LlamaForCausalLM).from_pretrained(folder, dtype=torch.float32)
    weights = narrow.get_base_model().state_dict()
    wide.load_state_dict({name.replace(".base_layer", ""): weights[name].float() for name in weights if "lora_" not in name})
    with in_float32(narrow), torch.no_grad():
        found = narrow(**BATCH).logits
    with torch.no_grad():
        expected = wide.eval()(**BATCH).logits
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)


def t5gemma2():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": 400, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "query_pre_attn_scalar": 8}
    encoder = {"text_config": text, "vision_config": sizes | {"image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 4}
    config = T5Gemma2Config(encoder=encoder, decoder=text, eoi_token_index=398, image_token_index=399)
    return transformers.T5Gemma2ForConditionalGeneration(config)


def gpt2():
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=400, **sizes))


def bart():
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return transformers.BartForConditionalGeneration(transformers.BartConfig(vocab_size=400, max_position_embeddings=64, **sizes))


def falcon():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 400}
    return transformers.FalconForCausalLM(transformers.FalconConfig(**sizes))


def jamba():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    mamba = {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False}
    config = transformers.JambaConfig(**sizes, **mamba, num_experts=2, vocab_size=400, pad_token_id=0)
    return transformers.JambaForCausalLM(config)


@pytest.mark.parametrize("make", [t5gemma2, falcon, jamba])
def test_a_tied_embedding_and_a_product_that_is_not_a_linear_layers_are_widened_too(make):
    torch.manual_seed(0)
    narrow = make().to(torch.bfloat16).requires_grad_(False).eval()
    wide = copy.deepcopy(narrow).float()
    inputs = {"input_ids": torch.arange(3, 12)[None]} | (
        {"decoder_input_ids": torch.arange(3, 8)[None]} if narrow.config.is_encoder_decoder else {}
    )
    with torch.no_grad(), in_float32(narrow):
        found = narrow(**inputs).logits
    with torch.no_grad():
        expected = wide(**inputs).logits
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)


class Int8(Linear8bitLt):
    """An int8 layer whose kernel, which only a GPU has, is a plain product: it takes float16, as bitsandbytes' own does."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        half = rows.to(torch.float16)
        self.seen = half.dtype
        return (half.float() @ self.weight.data.float().T).to(rows.dtype)


def test_int8_layers_keep_their_own_cast_to_float16_in_float32(t5, tokenizer):
    model = adapted(t5 / "plain", "bf16").eval()
    layer = model.get_encoder().block[0].layer[1].DenseReluDense.wi_0
    layer.__class__ = Int8
    with in_float32(model):
        wide = model(**model_inputs(T5_BATCH)).logits
    assert (layer.seen, wide.dtype) == (torch.float16, torch.float32)
    assert "forward" not in vars(layer)
    check_precision(Alone(model, [ROW], tokenizer))


@pytest.mark.parametrize(("kind", "options"), [
    ("t5", {"modules_to_save": ["lm_head"]}), ("t5", {"modules_to_save": ["wo", "shared"]}), ("t5", {"use_dora": True}),
    ("gpt2", {"bias": "all"}), ("gpt2", {"bias": "lora_only"}), ("bart", {"bias": "all"}),
])  # fmt: skip
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_is_trained_beside_lora_computes_in_float32_there_too(t5, precision, kind, options, tokenizer):
    """Against the same model made in float32 by torch itself, whose base has the narrow weights."""
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    targets = {"t5": ["q", "v"], "gpt2": ["c_attn"], "bart": ["q_proj", "v_proj"]}[kind]
    model = {"gpt2": gpt2, "bart": bart}[kind]().to(dtype) if kind != "t5" else None
    model = model or load_base(BaseModel(str(t5 / "plain")), True, *weight_format("bf16", "none"), "cpu").to(dtype)
    inputs, task = (CAUSAL_BATCH, "CAUSAL_LM") if kind == "gpt2" else (T5_BATCH, "SEQ_2_SEQ_LM")
    config = LoraConfig(task_type=task, target_modules=targets, r=4, init_lora_weights="gaussian", **options)
    wide = copy.deepcopy(model).float()
    narrow, expected = (add_lora(one.requires_grad_(False), config).eval() for one in (model, wide))
    check_precision(Alone(narrow, [ROW], tokenizer))
    expected.load_state_dict(narrow.state_dict())
    with in_float32(narrow):
        loss, gradient = loss_and_gradient(narrow, inputs, Objective(narrow))
    exact_loss, exact = loss_and_gradient(expected, inputs, Objective(expected))
    assert loss == pytest.approx(exact_loss, rel=1e-5)
    assert (gradient - exact).norm() < 1e-4 * exact.norm()


def test_the_comparison_multiplies_in_float32_whatever_the_training_does(t5):
    model = adapted(t5 / "plain", "bf16")
    torch.set_float32_matmul_precision("high")
    try:
        with in_float32(model):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_wo_in_float16_is_rejected_by_name(t5, monkeypatch, tokenizer):
    monkeypatch.setattr(T5PreTrainedModel, "_keep_in_fp32_modules", [])
    model = adapted(t5 / "wo", "fp16")
    with pytest.raises(Diverged, match=r"float16 is not sound.*encoder.block.0.layer.1.DenseReluDense.wo is the first"):
        check_precision(Alone(model, [ROW], tokenizer))


def test_what_overflows_even_in_the_jobs_way_is_rejected_by_name(t5, tokenizer):
    with pytest.raises(Diverged, match=r"DenseReluDense\S* is the first layer that overflows. Set PRECISION=fp32"):
        check_precision(Alone(adapted(t5 / "middle", "fp16"), [ROW], tokenizer))
    check_precision(Alone(adapted(t5 / "middle", "bf16"), [ROW], tokenizer))


def test_where_float32_does_not_fit_the_memory_a_line_says_that_nothing_was_checked(t5, monkeypatch, caplog, tokenizer):
    """As of the fused experts of a large mixture, which are widened as a whole."""
    model, measure, tried = adapted(t5 / "plain", "fp16").train(), alone_module.loss_and_gradient, []
    norm = model.get_encoder().final_layer_norm

    def small_memory(model, batch, objective, *within):
        tried.append(norm.weight.dtype)
        if tried[-1] == torch.float32:
            raise torch.OutOfMemoryError("injected")
        return measure(model, batch, objective, *within)

    monkeypatch.setattr(alone_module, "loss_and_gradient", small_memory)
    check_precision(Alone(model, [ROW], tokenizer))
    assert tried == [torch.float16, torch.float32]
    assert (model.training, norm.weight.dtype) == (True, torch.float16), "as it was"
    (line,) = caplog.messages
    assert line == "precision: a float32 comparison does not fit the memory; torch.float16 is not checked"


def test_a_row_that_does_not_fit_is_cut_until_it_does_and_an_overflow_is_still_found(t5, monkeypatch, tokenizer):
    measure, tried = alone_module.loss_and_gradient, []

    def small_memory(model, batch, objective, *within):
        tried.append((batch["input_ids"].shape[1], batch["labels"].shape[1], batch["labels"][0, -1].item()))
        if tried[-1][0] > 32:
            raise torch.OutOfMemoryError("injected")
        return measure(model, batch, objective, *within)

    monkeypatch.setattr(alone_module, "loss_and_gradient", small_memory)
    row = {"input_ids": [*range(3, 103)], "labels": [*range(3, 43)]}
    with pytest.raises(Diverged, match="Set PRECISION=fp32"):
        check_precision(Alone(adapted(t5 / "middle", "fp16"), [row], tokenizer))
    assert tried == [(100, 40, 42), (50, 40, 42), (25, 25, 42), (25, 25, 42)]


def test_a_run_probes_its_type_before_the_first_step(run_job, t5, tokenizer, write_rows, questions):
    tokenizer.save_pretrained(t5 / "middle")
    code, said = run_job(MODEL_ID=t5 / "middle", TRAIN_DATA=write_rows(questions), PRECISION="fp16", MAX_STEPS="1")
    assert code == 76
    assert "is not sound for this model: on the longest row the loss is nan" in said
