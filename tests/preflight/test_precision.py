"""The check of the type: what it takes for float32 is float32, and what it rejects is wrong."""

import copy

import pytest
import torch
import transformers
from peft import LoraConfig
from transformers import BatchEncoding, LlamaForCausalLM, T5Config, T5ForConditionalGeneration, T5PreTrainedModel
from transformers.models.t5gemma2.configuration_t5gemma2 import T5Gemma2Config

from job.config.libraries import weight_format
from job.errors import Diverged
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.preflight import precision
from job.preflight.precision import check_precision, in_float32

BATCH = BatchEncoding({
    "input_ids": torch.arange(3, 19).reshape(1, 16),
    "attention_mask": torch.ones(1, 16, dtype=torch.long),
    "labels": torch.arange(40, 56).reshape(1, 16),
})  # fmt: skip
T5_BATCH = BatchEncoding(
    BATCH | {"decoder_input_ids": torch.cat([torch.zeros(1, 1, dtype=torch.long), BATCH["labels"][:, :-1]], 1)}
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
def test_what_is_sound_passes_and_the_model_is_as_it_was(t5, precision, quantization, kind):
    model = adapted(t5 / kind, precision, quantization).train()
    before = {name: (tensor.dtype, tensor.clone()) for name, tensor in model.state_dict().items() if torch.is_tensor(tensor)}
    check_precision(model, T5_BATCH)
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


def test_wo_in_float16_is_rejected_by_name(t5, monkeypatch):
    monkeypatch.setattr(T5PreTrainedModel, "_keep_in_fp32_modules", [])
    model = adapted(t5 / "wo", "fp16")
    with pytest.raises(Diverged, match=r"float16 is not sound.*encoder.block.0.layer.1.DenseReluDense.wo is the first"):
        check_precision(model, T5_BATCH)


def test_what_overflows_even_in_the_jobs_way_is_rejected_by_name(t5):
    with pytest.raises(Diverged, match=r"DenseReluDense\S* is the first layer that overflows. Set PRECISION=fp32"):
        check_precision(adapted(t5 / "middle", "fp16"), T5_BATCH)
    check_precision(adapted(t5 / "middle", "bf16"), T5_BATCH)


def test_where_float32_does_not_fit_the_memory_a_line_says_that_nothing_was_checked(t5, monkeypatch, caplog):
    """As of the fused experts of a large mixture, which are widened as a whole."""
    model, measure, tried = adapted(t5 / "plain", "fp16").train(), precision.loss_and_gradient, []
    norm = model.get_encoder().final_layer_norm

    def small_memory(model, batch):
        tried.append(norm.weight.dtype)
        if tried[-1] == torch.float32:
            raise torch.OutOfMemoryError("injected")
        return measure(model, batch)

    monkeypatch.setattr(precision, "loss_and_gradient", small_memory)
    check_precision(model, T5_BATCH)
    assert tried == [torch.float16, torch.float32]
    assert (model.training, norm.weight.dtype) == (True, torch.float16), "as it was"
    (line,) = caplog.messages
    assert "a float32 comparison of the longest row does not fit the memory" in line


def test_a_run_probes_its_type_before_the_first_step(run_job, t5, tokenizer, write_rows, questions):
    tokenizer.save_pretrained(t5 / "middle")
    code, said = run_job(MODEL_ID=t5 / "middle", TRAIN_DATA=write_rows(questions), PRECISION="fp16", MAX_STEPS="1")
    assert code == 76
    assert "is not sound for this model: on the longest row the loss is nan" in said
