"""The adapter that a person takes home is whole, finite and what was trained."""

import json
import stat

import pytest
import torch
from peft import LoraConfig, PeftConfig
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from job.errors import Diverged, VerificationFailed
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora, load_adapter
from job.publish.adapter import save_adapter


@pytest.fixture
def adapted(t5_folder):
    base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"])
    return add_lora(base, config)


@pytest.fixture
def rows(tokenizer):
    batch = tokenizer(["the 3 of May"], return_tensors="pt")
    return batch | {"labels": batch.input_ids}


def test_the_adapter_names_the_hub_id_and_is_as_readable_as_other_files(adapted, tokenizer, rows, tmp_path):
    save_adapter(adapted, tokenizer, tmp_path / "adapter", "google/flan-t5-base", {"job.json": {"prompt_template": "x"}}, rows)
    assert json.loads((tmp_path / "adapter" / "job.json").read_text()) == {"prompt_template": "x"}
    assert PeftConfig.from_pretrained(tmp_path / "adapter").base_model_name_or_path == "google/flan-t5-base"
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "adapter").iterdir()}
    assert modes == {stat.S_IMODE((tmp_path / "other").stat().st_mode)}
    assert not (tmp_path / "adapter.partial").exists()


def test_an_adapter_with_nan_is_never_published(adapted, tokenizer, rows, tmp_path):
    with torch.no_grad():
        next(parameter for name, parameter in adapted.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(Diverged, match="holds NaN"):
        save_adapter(adapted, tokenizer, tmp_path / "adapter", "b", {}, rows)
    assert not (tmp_path / "adapter").exists()


def test_an_adapter_that_is_not_on_the_disk_what_was_trained_is_never_published(adapted, tokenizer, rows, tmp_path, monkeypatch):
    save = adapted.save_pretrained

    def save_and_lose_a_bit(folder, **options):
        save(folder, **options)
        path = folder / "adapter_model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(adapted, "save_pretrained", save_and_lose_a_bit)
    with pytest.raises(VerificationFailed, match="not what was trained"):
        save_adapter(adapted, tokenizer, tmp_path / "adapter", "b", {}, rows)
    assert not (tmp_path / "adapter").exists()


def test_an_adapter_whose_config_tells_something_else_is_never_published(adapted, tokenizer, rows, tmp_path, monkeypatch):
    """Same weights, other scaling: only its answers give it away."""
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    save = adapted.save_pretrained

    def save_with_another_alpha(folder, **options):
        save(folder, **options)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 80}))

    monkeypatch.setattr(adapted, "save_pretrained", save_with_another_alpha)
    with pytest.raises(VerificationFailed, match="answers differently"):
        save_adapter(adapted, tokenizer, tmp_path / "adapter", "b", {}, rows)
    assert not (tmp_path / "adapter").exists()


def test_an_adapter_replaces_an_older_one_and_leaves_the_model_as_it_was(adapted, tokenizer, rows, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "older").touch()
    adapted.eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        before = adapted(**rows).logits
        save_adapter(adapted, tokenizer, tmp_path / "adapter", "b", {}, rows)
        assert torch.equal(adapted(**rows).logits, before)
    assert list(adapted.peft_config) == ["default"]
    assert not (tmp_path / "adapter" / "older").exists()


def test_what_is_published_is_what_was_trained_tokenizer_and_all(adapted, tokenizer, rows, tmp_path, t5_folder):
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        expected = adapted.eval()(**rows).logits
        save_adapter(adapted, tokenizer, tmp_path / "adapter", "b", {}, rows)
        base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
        assert torch.allclose(load_adapter(base, tmp_path / "adapter").eval()(**rows).logits, expected, atol=1e-6)
    text = "the 3 of May"
    assert AutoTokenizer.from_pretrained(tmp_path / "adapter")(text).input_ids == tokenizer(text).input_ids


def test_an_adapter_with_trained_biases_is_published(tokenizer, tmp_path):
    """PEFT holds no second adapter beside these: only their values are compared."""
    base = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2, n_positions=32))
    model = add_lora(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], bias="lora_only"))
    save_adapter(model, tokenizer, tmp_path / "adapter", "b", {}, tokenizer(["x"], return_tensors="pt"))
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert [name for name in saved if name.endswith(".bias")] == ["base_model.model.transformer.h.0.attn.c_attn.base_layer.bias"]
