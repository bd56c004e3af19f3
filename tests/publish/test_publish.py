"""What a person takes home."""

import json
import stat

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from peft import LoraConfig, PeftConfig

from job.errors import Diverged, VerificationFailed
from job.evaluation.verdict import MetricComparison
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.publish.adapter import save_adapter
from job.publish.card import write_card

FACTS = {
    "title": "run-1",
    "base": "google/flan-t5-base",
    "data": "a: b.xlsx",
    "train_rows": 80,
    "verdict": "better on 20 rows: exact match 1.0 % -> 90.0 %",
    "seq2seq": True,
    "template": 'Say "{input}":\n',
    "max_new_tokens": 20,
    "proof": "8 of 8 answers the same, losses within 1.0e-06",
    "versions": {"lora-job": "0.2.0", "torch": "2.10.0"},
}
SCORES = [
    MetricComparison("exact_match", 0.01, 0.9, 0.05, 0.89, 0.8, 0.95),
    MetricComparison("loss", 2.0, 0.5, None, -1.5, -1.7, -1.3),
]


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


def test_the_card_holds_what_the_hub_reads_and_what_a_person_needs(tmp_path):
    write_card(tmp_path / "README.md", FACTS, SCORES, {"LORA_R": "8"})
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "google/flan-t5-base"
    assert card.data.library_name == "peft"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {"exact_match": 0.9, "loss": 0.5}
    index = yaml.safe_load(card.content.split("---")[1])
    assert index["license"] == "other"
    assert model_index_to_eval_results(index["model-index"])[0] == FACTS["title"]
    text = (tmp_path / "README.md").read_text()
    assert "AutoPeftModelForSeq2SeqLM" in text
    assert "Loaded again by a fresh process with peft and transformers alone: 8 of 8 answers the same" in text
    assert "exact match 1.0 % -> 90.0 %" in text
    assert "| exact_match | 0.0100 | 0.9000 | 0.0500 | +0.8900 | +0.8000 to +0.9500 |" in text
    assert "| loss | 2.0000 | 0.5000 |  | -1.5000 | -1.7000 to -1.3000 |" in text
    assert "- `LORA_R`: 8" in text
    assert "- `lora-job`: 0.2.0\n- `torch`: 2.10.0" in text


def test_the_code_in_the_card_is_python(tmp_path):
    write_card(tmp_path / "README.md", FACTS | {"seq2seq": False, "proof": None}, [], {})
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert f"tokenizer({FACTS['template'] + chr(10)!r}, return_tensors" in code


@pytest.mark.parametrize("base", ["job/demo/base", "/models/mine", "./mine"])
def test_a_folder_is_no_base_model_of_the_hub(base, tmp_path):
    write_card(tmp_path / "README.md", FACTS | {"base": base}, SCORES, {})
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None
    assert "huggingface.co" not in (tmp_path / "README.md").read_text()
