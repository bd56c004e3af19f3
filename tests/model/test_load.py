"""Base models load right."""

import copy
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BartConfig,
    ByT5Tokenizer,
    GPT2Config,
    GPTNeoXConfig,
    MBartConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from job.errors import InputMissing, SettingsError
from job.model.load import BaseModel, check_code, check_vocabulary, embeddings, is_seq2seq, load_base


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


def test_the_kind_of_model_is_read_from_its_config(t5_folder, llama_folder):
    base = BaseModel("x")
    assert is_seq2seq(AutoConfig.from_pretrained(t5_folder), "auto", base)
    assert not is_seq2seq(AutoConfig.from_pretrained(llama_folder), "auto", base)
    with pytest.raises(SettingsError, match="is a causal model"):
        is_seq2seq(AutoConfig.from_pretrained(llama_folder), "seq2seq", base)


@pytest.mark.slow
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


def test_a_tokenizer_may_have_more_tokens_than_the_model_embeds_or_far_fewer(tokenizer):
    """bart-large-cnn and gemma-3-1b have one more; a model for many languages may have ten times as many embeddings."""
    for embedded in (len(tokenizer) - 1, 20 * len(tokenizer)):
        check_vocabulary(BaseModel("m"), T5Config(vocab_size=embedded), tokenizer)


@pytest.mark.parametrize("config", [T5Config(), BartConfig(), MBartConfig(), GPT2Config(), GPTNeoXConfig(), Qwen2Config()])
def test_a_tokenizer_that_transformers_made_up_is_refused(config, tmp_path):
    config.save_pretrained(tmp_path)
    made_up = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputMissing, match=r"^MODEL_ID=m: no tokenizer there, or one that has special tokens alone"):
        check_vocabulary(BaseModel("m"), config, made_up)


def test_a_byt5_tokenizer_whose_tokens_are_bytes_is_not_made_up():
    check_vocabulary(BaseModel("m"), T5Config(vocab_size=384), ByT5Tokenizer())


@pytest.mark.parametrize("name", ["pad_token", "eos_token"])
def test_a_special_token_without_an_embedding_is_told(tokenizer, name):
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({name: "<new>"})
    embedded = other.convert_tokens_to_ids("<new>")
    said = f'the {name} of its tokenizer, "<new>", is token {embedded}, and the model has {embedded} embeddings'
    with pytest.raises(InputMissing, match=said):
        check_vocabulary(BaseModel("m"), T5Config(vocab_size=embedded), other)
    check_vocabulary(BaseModel("m"), T5Config(vocab_size=embedded + 1), other)


def test_a_config_that_does_not_say_how_many_embeddings_there_are_is_not_held_against_a_tokenizer(tokenizer):
    class Silent(PreTrainedConfig):
        vocab_size = None

    assert embeddings(Silent()) is None
    check_vocabulary(BaseModel("m"), Silent(), tokenizer)


def test_code_beside_an_adapter_is_that_of_the_trusted_base_or_refused(tmp_path):
    for name in ("base", "adapter"):
        (tmp_path / name / "parts").mkdir(parents=True)
        (tmp_path / name / "parts" / "own.py").write_text("x = 1\n")
    base = BaseModel(str(tmp_path / "base"), trust_remote_code=True)
    check_code(base, tmp_path / "adapter")
    (tmp_path / "adapter" / "parts" / "own.py").write_text("x = 2\n")
    with pytest.raises(SettingsError, match=r"own.py: TRUST_REMOTE_CODE=true is said of MODEL_ID=.*base, and this is not a file"):
        check_code(base, tmp_path / "adapter")
    with pytest.raises(SettingsError, match="not a file of that model"):
        check_code(BaseModel("someone/else", trust_remote_code=True), tmp_path / "adapter")
    check_code(replace(base, trust_remote_code=False), tmp_path / "adapter")  # it is not run
