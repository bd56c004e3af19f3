"""LoRA on a base model has the parameters that it should have, and can be switched off."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, T5Config

from job.errors import SettingsError
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora, base_only, choose_targets

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
