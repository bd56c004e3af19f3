"""The merged model: base plus scaled BA by hand, read back from the disk, and refused where it is not the adapter."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from job.system.seal import seal

FEW = {"MAX_STEPS": 4, "MAX_NEW_TOKENS": 6, "EVAL_STRATEGY": "no", "RUN_NAME": "r"}
SMALL = {"LEARNING_RATE": 0.02, "LORA_ALPHA": 8, "LORA_R": 4, "METRICS": "exact_match,loss"}
MERGED = Path("output/r/merged")


@pytest.fixture(scope="module")
def pristine(run_once):
    """A finished run that no test may change."""
    return run_once(FEW | SMALL, 0)


@pytest.fixture
def run(pristine, tmp_path) -> dict:
    """The variables of a finished run, which is in this test's own folder."""
    variables, folder = pristine
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return variables


def test_merged_weights_are_base_plus_scaled_ba(run, run_job, t5_folder):
    code, said = run_job("merge", **run)
    assert code == 0, said
    base, merged = load_file(t5_folder / "model.safetensors"), load_file(MERGED / "model.safetensors")
    adapter = load_file("output/r/adapter/adapter_model.safetensors")
    changed = 0
    for name, weight in merged.items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_%s.weight"
        expected = base[name]
        if key % "A" in adapter:
            expected = expected + (8 / 4) * adapter[key % "B"] @ adapter[key % "A"]
            changed += 1
        assert torch.allclose(weight, expected, atol=1e-6), name
    assert changed == 2 * (2 + 2 + 2)  # q and v of two blocks' encoder, decoder and cross-attention
    assert not torch.equal(merged["lm_head.weight"], merged["shared.weight"])


def test_the_folder_is_a_model_that_anybody_can_load(run, run_job):
    assert run_job("merge", **run)[0] == 0
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(MERGED), AutoTokenizer.from_pretrained(MERGED)
    assert GenerationConfig.from_pretrained(MERGED).decoder_start_token_id == 0
    tokens = model.generate(**tokenizer("Input: the 3 of May", return_tensors="pt"), max_new_tokens=6)
    assert tokens.shape[0] == 1
    told = json.loads((MERGED / "merge.json").read_text())
    assert told["the adapter beside the same weights"]["largest_loss_difference"] < 1e-4
    assert told["the adapter as it was trained"]["same_outputs"] == 8


def test_a_type_that_cannot_hold_it_is_refused_and_nothing_is_left(run, run_job, monkeypatch):
    from job.publish import verification

    monkeypatch.setitem(verification.TOLERANCE, "bf16", 1e-9)
    monkeypatch.setitem(verification.TOLERANCE, "fp32", 1e-9)
    code, said = run_job("merge", **run | {"MERGE_PRECISION": "bf16"})
    assert code == 73
    assert "merged in bf16 it differs from the adapter" in said
    assert "Set MERGE_PRECISION=fp32" in said
    assert not MERGED.exists()
    assert not MERGED.with_name("merged.partial").exists()
    assert json.loads(Path("output/r/status.json").read_text())["state"] == "done", "the run itself is as good as it was"


@pytest.mark.parametrize(("gap", "code"), [(0.0005, 0), (0.002, 73)])
def test_a_merged_model_that_answers_otherwise_is_refused_unless_two_tokens_were_as_likely(run, run_job, fresh_process, gap, code):
    usual, asked = fresh_process["run"], []

    def answer_otherwise(task: str):
        asked.append(json.loads(task)["rows"])
        ended = usual(task)
        found = json.loads(ended.stdout)
        found["outputs"][2] = "another"
        found["gaps"][2] = dict.fromkeys(asked[0][2]["answers"], gap)
        ended.stdout = json.dumps(found)
        return ended

    fresh_process["run"] = answer_otherwise
    found, said = run_job("merge", **run)
    expected = json.loads(Path("output/r/proof.json").read_text())["expected"]
    assert found == code, said
    assert [list(row["answers"].items()) for row in asked[0]] == [
        [(text, ids)] for text, ids in zip(expected["outputs"], expected["ids"], strict=True)
    ]
    told = "7 of 8 answers the same, " + ("1 a near tie of two tokens" if not code else "1 differ: expected")
    assert told in said
    assert MERGED.exists() == (not code)
    if code:
        assert "in fp32 it answers otherwise than the adapter beside the same weights: 7 of 8" in said
        assert "Set PER_DEVICE_EVAL_BATCH_SIZE=1, run `evaluate` and merge again" in said
        assert "is allowed" not in said


@pytest.mark.parametrize(("keeps_tokens", "code"), [(True, 73), (False, 0)])
def test_a_proof_of_0_1_0_which_kept_no_tokens_is_held_against_the_losses(run, run_job, keeps_tokens, code):
    proof = Path("output/r/proof.json")
    content = json.loads(proof.read_text())
    content["expected"]["outputs"][2] = "another"
    if keeps_tokens:
        content["expected"]["ids"][2] = [3]
    else:
        del content["expected"]["ids"]
    proof.write_text(json.dumps(content))
    found, said = run_job("merge", **run)
    assert found == code, said
    assert 'the adapter as it was trained: 7 of 8 answers the same, 1 differ: expected "another"' in said


def test_weights_that_overflow_half_precision_are_refused(run, run_job, t5_folder):
    """A trained T5's `wo` is not alone: where base plus BA is beyond 65504, float16 makes it infinite."""
    path = Path("output/r/adapter/adapter_model.safetensors")
    save_file({name: tensor * (400 if "lora_B" in name else 4000) for name, tensor in load_file(path).items()}, path)
    seal(path.parent)
    code, said = run_job("merge", **run | {"MERGE_PRECISION": "fp16"})
    assert code == 73, said
    assert not MERGED.exists()


def test_without_a_run_there_is_nothing_to_merge(run_job):
    code, said = run_job("merge", RUN_NAME="none")
    assert code == 66
    assert "no adapter there" in said


def test_a_disk_without_room_for_the_model_is_told_before_it_is_loaded(run, run_job, monkeypatch):
    from job.system import durable

    real = durable.shutil.disk_usage
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    code, said = run_job("merge", **run)
    assert code == 74
    assert "the merged model takes about 0.00" in said
    assert "set OUTPUT_DIR to another disk" in said


def test_a_head_that_is_tied_to_the_decoders_embedding_stays_so(tmp_path):
    """PEFT looks at the encoder's. The head's weight is not saved twice: untied, a T5Gemma would be loaded with a new one."""
    from transformers import T5GemmaConfig, T5GemmaForConditionalGeneration, T5GemmaModuleConfig

    from job.commands.merge import _save_merged
    from job.model.lora import add_lora

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    module = T5GemmaModuleConfig(**sizes, head_dim=8, vocab_size=64)
    torch.manual_seed(0)
    base = T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=module, decoder=module, vocab_size=64))
    assert base.lm_head.out_proj.weight is base.model.decoder.embed_tokens.weight is not base.get_input_embeddings().weight
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = add_lora(base.requires_grad_(False), config).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "decoder_input_ids": torch.tensor([[2, 8]])}
    expected = model(**inputs).logits
    _save_merged(model, tmp_path, "fp32")
    assert torch.allclose(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)(**inputs).logits, expected, atol=1e-6)
