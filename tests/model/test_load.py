"""Base models load right, and LoRA has the parameters it should have."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.activations import NewGELUActivation

from job.config.libraries import weight_format
from job.errors import SettingsError
from job.model.load import BaseModel, is_seq2seq, load_base
from job.model.lora import add_lora, choose_targets
from job.model.patches import fuse_gelu

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


def reference_logits(weights: dict[str, Tensor], config: T5Config, source: Tensor, target: Tensor) -> Tensor:
    """Logits of a T5 v1.1, (target length, vocabulary), written from the paper; float64, one row, no mask.

    Pre-norm blocks without biases, RMS norm, attention without scaling, relative position bias of the first layer used in
    all, gated tanh-GELU, decoder input shifted right behind token 0, an lm_head of its own without scaling.
    """
    weights = {name: weight.double() for name, weight in weights.items()}
    heads, size = config.num_heads, config.d_kv

    def norm(x: Tensor, name: str) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + config.layer_norm_epsilon) * weights[name]

    def bucket(distance: int, bidirectional: bool) -> int:
        buckets, offset = config.relative_attention_num_buckets, 0
        if bidirectional:
            buckets //= 2
            offset = buckets if distance > 0 else 0
            distance = abs(distance)
        else:
            distance = max(-distance, 0)
        exact = buckets // 2
        if distance < exact:
            return offset + distance
        log = math.log(distance / exact) / math.log(config.relative_attention_max_distance / exact)
        return offset + min(exact + int(log * (buckets - exact)), buckets - 1)

    def position_bias(stack: str, length: int) -> Tensor:
        table = weights[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        places = [[bucket(key - query, stack == "encoder") for key in range(length)] for query in range(length)]
        bias = table[torch.tensor(places)].permute(2, 0, 1)
        return bias if stack == "encoder" else bias.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)

    def attend(queries: Tensor, keys: Tensor, name: str, bias: Tensor | float) -> Tensor:
        q, k, v = (
            (x @ weights[f"{name}.{part}.weight"].T).view(len(x), heads, size).transpose(0, 1)
            for part, x in (("q", queries), ("k", keys), ("v", keys))
        )
        mixed = torch.softmax(q @ k.transpose(1, 2) + bias, -1) @ v
        return mixed.transpose(0, 1).reshape(len(queries), heads * size) @ weights[f"{name}.o.weight"].T

    def feed_forward(x: Tensor, name: str) -> Tensor:
        gate = F.gelu(x @ weights[f"{name}.wi_0.weight"].T, approximate="tanh")
        return (gate * (x @ weights[f"{name}.wi_1.weight"].T)) @ weights[f"{name}.wo.weight"].T

    def run(stack: str, ids: Tensor, encoded: Tensor | None) -> Tensor:
        x, bias = weights["shared.weight"][ids], position_bias(stack, len(ids))
        for number in range(config.num_layers):
            block = f"{stack}.block.{number}.layer"
            normed = norm(x, f"{block}.0.layer_norm.weight")
            x = x + attend(normed, normed, f"{block}.0.SelfAttention", bias)
            if encoded is not None:
                x = x + attend(norm(x, f"{block}.1.layer_norm.weight"), encoded, f"{block}.1.EncDecAttention", 0.0)
            last = f"{block}.{1 if encoded is None else 2}"
            x = x + feed_forward(norm(x, f"{last}.layer_norm.weight"), f"{last}.DenseReluDense")
        return norm(x, f"{stack}.final_layer_norm.weight")

    encoded = run("encoder", source, None)
    decoded = run("decoder", torch.cat([torch.zeros(1, dtype=torch.long), target[:-1]]), encoded)
    return decoded @ weights["lm_head.weight"].T


def test_a_flan_t5_checkpoint_as_published_computes_what_the_paper_says(t5_folder, tmp_path):
    """Published: `tie_word_embeddings` false in config.json, `lm_head` and `shared` both in the file and different."""
    import json
    import shutil

    from safetensors.torch import load_file

    folder = tmp_path / "published"
    shutil.copytree(t5_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("scale_decoder_outputs", None)
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    weights = load_file(folder / "model.safetensors")
    assert not torch.equal(weights["lm_head.weight"], weights["shared.weight"])

    model = load_base(BaseModel(str(folder)), True, torch.float32, None, "cpu").double().eval()
    source, target = torch.randint(3, 384, (17,)), torch.randint(3, 384, (9,))
    with torch.no_grad():
        logits = model(input_ids=source[None], labels=target[None]).logits[0]
    torch.testing.assert_close(logits, reference_logits(weights, model.config, source, target), rtol=1e-5, atol=1e-6)


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


def test_the_kind_of_model_is_read_from_its_config(t5_folder, llama_folder):
    base = BaseModel("x")
    assert is_seq2seq(AutoConfig.from_pretrained(t5_folder), "auto", base)
    assert not is_seq2seq(AutoConfig.from_pretrained(llama_folder), "auto", base)
    with pytest.raises(SettingsError, match="is a causal model"):
        is_seq2seq(AutoConfig.from_pretrained(llama_folder), "seq2seq", base)


def test_the_fused_gelu_is_the_models_own(t5_folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_folder, dtype=torch.float64).eval()
    inputs = {"input_ids": torch.arange(3, 40)[None], "decoder_input_ids": torch.arange(3, 20)[None]}
    expected = model(**inputs).logits
    fuse_gelu(model)
    assert not any(isinstance(module, NewGELUActivation) for module in model.modules())
    assert (model(**inputs).logits - expected).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_in_memory_once(tmp_path, tokenizer, dtype):
    """At the peak of loading; pages of the file itself are left out, since they can be dropped."""
    config = T5Config(vocab_size=400, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, feed_forward_proj="gated-gelu")
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    measured = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path), dtype],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    weights, taken = map(int, measured.stdout.split())
    assert weights > 50 * 2**20
    assert taken < 1.15 * weights


LOAD = """
import re, sys, threading, time
from pathlib import Path
import torch, transformers.models.t5.modeling_t5
from job.model.load import BaseModel, load_base

def held():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before, peak, loading = held(), [0], True
def watch():
    while loading:
        peak.append(held())
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
model = load_base(BaseModel(sys.argv[1]), True, getattr(torch, sys.argv[2]), None, "cpu")
loading = False
thread.join()
print(sum(p.numel() * p.element_size() for p in model.parameters()), max(peak) - before)
"""


def test_nf4_weights_stay_as_they_are_when_a_model_only_answers(t5_folder, monkeypatch):
    """bitsandbytes repacks them at the first evaluation on CPUs that multiply bfloat16, and what it unpacks later is another."""
    from bitsandbytes.nn import Linear4bit, modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    model = load_base(BaseModel(str(t5_folder)), True, *weight_format("fp32", "nf4"), "cpu").eval()
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    before = [layer.weight.data.view(torch.uint8).clone() for layer in layers]
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 1]]), decoder_input_ids=torch.tensor([[0, 4]]))
    assert layers
    assert all(torch.equal(layer.weight.data.view(torch.uint8), kept) for layer, kept in zip(layers, before, strict=True))
