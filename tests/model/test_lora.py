"""LoRA on a base model has the parameters that it should have, and can be switched off."""

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import GPT2Config, GPT2LMHeadModel

from job.errors import InputMissing, SettingsError
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora, base_only, load_adapter


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


def test_no_part_of_a_model_keeps_keys_and_values_while_it_is_trained(t5_folder):
    """A T5's decoder is configured apart from the whole."""
    model = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    adapted = add_lora(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"]))
    rows = torch.arange(3, 9)[None]
    assert adapted(input_ids=rows, decoder_input_ids=rows).past_key_values is None


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("kind", "options"), [
    ("t5", {"modules_to_save": ["lm_head"]}), ("t5", {"modules_to_save": ["wo", "shared"]}), ("t5", {"use_dora": True}),
    ("gpt2", {"bias": "all"}), ("gpt2", {"bias": "lora_only"}), ("gpt2", {"modules_to_save": ["ln_f", "c_fc"], "bias": "all"}),
])  # fmt: skip
def test_all_that_is_trained_is_float32_and_plain_peft_computes_the_same_with_it(t5_folder, tmp_path, kind, options, dtype):
    """Trained by steps that would be rounded away in half precision; what peft loads has the type of the base."""

    def base():
        return load_base(BaseModel(str(t5_folder)), True, dtype, None, "cpu") if kind == "t5" else gpt2().to(dtype)

    task, targets = ("SEQ_2_SEQ_LM", ["q", "v"]) if kind == "t5" else ("CAUSAL_LM", ["c_attn"])
    adapted = add_lora(base(), LoraConfig(task_type=task, target_modules=targets, **options)).eval()
    inputs = {"input_ids": torch.arange(3, 20)[None], "labels": torch.arange(5, 22)[None]}
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    adapted(**inputs).loss.backward()
    with torch.no_grad():
        for name, parameter in trained.items():
            assert parameter.grad is None or parameter.grad.dtype == torch.float32
            parameter.add_(parameter.abs().clamp(min=1e-3) * 2**-10)
            assert not torch.equal(parameter, before[name])
    adapted.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(adapted(**inputs).logits, PeftModel.from_pretrained(base(), tmp_path).eval()(**inputs).logits)
        with base_only(adapted):
            assert torch.equal(adapted(**inputs).logits, base().eval()(**inputs).logits)


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
