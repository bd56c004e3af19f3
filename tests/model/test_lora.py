"""LoRA on a base model has the parameters that it should have, and can be switched off."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GPT2Config, GPT2LMHeadModel, T5Config

from job.errors import InputMissing, SettingsError
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora, base_only, choose_targets, load_adapter

SIZES = {  # d_model, d_ff, layers, heads, all parameters, trainable with r=16 on q and v (DESIGN.md)
    "small": (512, 1024, 8, 6, 76_961_152, 688_128),
    "base": (768, 2048, 12, 12, 247_577_856, 1_769_472),
    "large": (1024, 2816, 24, 16, 783_150_080, 4_718_592),
    "xl": (2048, 5120, 24, 32, 2_849_757_184, 9_437_184),
    "xxl": (4096, 10240, 24, 64, 11_135_332_352, 18_874_368),
}


@pytest.mark.parametrize("size", SIZES)
def test_lora_on_flan_t5_has_the_published_number_of_parameters(size):
    d_model, d_ff, layers, heads, total, trainable = SIZES[size]
    config = T5Config(
        vocab_size=32128, d_model=d_model, d_ff=d_ff, d_kv=64, num_layers=layers, num_heads=heads, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)
        targets = choose_targets(("auto",), model)
        adapted = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, lora_alpha=32, target_modules=targets))
    assert targets == ["q", "v"]
    found, everything = adapted.get_nb_trainable_parameters()
    own_lm_head = 32128 * d_model  # `from_config` ties it to the embedding, a checkpoint brings its own
    assert (found, everything - found + own_lm_head) == (trainable, total)


def test_adding_and_saving_lora_leaves_lm_head_and_embedding_alone(t5_folder, tmp_path):
    before = {
        name: value.clone()
        for name, value in load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu").state_dict().items()
    }
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    adapted = add_lora(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"]))
    adapted.save_pretrained(tmp_path)
    unloaded = adapted.unload().state_dict()
    assert all(torch.equal(unloaded[name], value) for name, value in before.items())


def test_only_the_adapter_is_trained_and_it_is_float32(t5_folder):
    model = load_base(BaseModel(str(t5_folder)), True, torch.bfloat16, None, "cpu")
    adapted = add_lora(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"]))
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name and parameter.dtype == torch.float32 for name, parameter in trained.items())
    assert adapted.get_base_model().shared.weight.dtype == torch.bfloat16


def test_targets_are_checked_one_by_one(t5_folder):
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    assert choose_targets(("q", "DenseReluDense.wo"), model) == ["q", "DenseReluDense.wo"]
    assert choose_targets(("all-linear",), model) == "all-linear"
    with pytest.raises(SettingsError, match='named "query"'):
        choose_targets(("q", "query"), model)


def test_base_only_switches_the_adapter_off_and_on_again(t5_folder):
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu").eval()
    inputs = {"input_ids": torch.tensor([[20, 30, 40, 1]]), "labels": torch.tensor([[5, 6, 1]])}
    with torch.no_grad():
        before = model(**inputs).logits
        adapted = add_lora(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"])).eval()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
        trained = adapted(**inputs).logits
        with base_only(adapted):
            assert torch.equal(adapted(**inputs).logits, before)
        assert torch.equal(adapted(**inputs).logits, trained)
    assert not torch.allclose(trained, before)


def gpt2() -> GPT2LMHeadModel:
    """A tiny model whose layers have biases."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=2, n_positions=32)).eval()


def with_trained_biases() -> torch.nn.Module:
    """An adapter whose biases are not what they were."""
    adapted = add_lora(gpt2(), LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], bias="all")).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.5)
    return adapted


@pytest.mark.parametrize("is_loaded", [False, True])
def test_base_only_takes_back_trained_biases_also_those_of_a_saved_adapter(tmp_path, is_loaded):
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        before = gpt2()(ids).logits
        adapted = with_trained_biases()
        trained = adapted(ids).logits
        if is_loaded:
            adapted.save_pretrained(tmp_path)
            adapted = load_adapter(gpt2(), tmp_path).eval()
        assert torch.equal(adapted(ids).logits, trained)
        with base_only(adapted):
            assert torch.equal(adapted(ids).logits, before)
        assert torch.equal(adapted(ids).logits, trained)
    assert not torch.allclose(trained, before)


def test_base_only_puts_trained_biases_back_after_an_error():
    adapted, ids = with_trained_biases(), torch.arange(3, 20)[None]
    with torch.no_grad():
        trained = adapted(ids).logits
        with pytest.raises(ValueError, match="x"), base_only(adapted):
            raise ValueError("x")
        assert torch.equal(adapted(ids).logits, trained)


def test_auto_takes_the_modules_that_peft_chooses_for_the_kind_and_all_linear_ones_where_it_knows_none(t5_folder, llama_folder):
    for folder, expected in ((t5_folder, ["q", "v"]), (llama_folder, ["q_proj", "v_proj"])):
        auto = AutoModelForSeq2SeqLM if folder == t5_folder else AutoModelForCausalLM
        assert choose_targets(("auto",), auto.from_pretrained(folder)) == expected
    model = gpt2()
    model.config.model_type = "made_up"
    assert "made_up" not in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert choose_targets(("auto",), model) == "all-linear"


def test_a_target_is_a_module_not_a_part_of_a_name_nor_a_block(t5_folder):
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    for target in ("DenseReluDense", "SelfAttention", "_0", ""):
        with pytest.raises(SettingsError, match=f'no module of the model is named "{target}"; there are k, lm_head, o, q, v, wi_0'):
            choose_targets((target,), model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modules_to_save": ["scorer"]}, 'MODULES_TO_SAVE: no module of the model is named "scorer". Name one that is there'),
        ({"target_modules": ["nothing"]}, "LoRA: Target modules"),
        ({"r": 4, "target_modules": ["shared", "layer_norm"]}, "LoRA: Target module T5LayerNorm"),
    ],
)  # fmt: skip
def test_what_lora_cannot_be_put_on_is_told_in_one_line(t5_folder, options, said):
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    with pytest.raises(SettingsError) as raised:
        add_lora(model, LoraConfig(task_type="SEQ_2_SEQ_LM", **{"target_modules": ["q"]} | options))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_without_an_adapter_is_told(t5_folder, tmp_path):
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    with pytest.raises(InputMissing, match=r"no adapter there. Train one first, or check OUTPUT_DIR and RUN_NAME.$"):
        load_adapter(model, tmp_path)
