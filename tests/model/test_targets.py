"""Which layers get LoRA, by the names of the modules that PEFT adapts in tiny models of every family."""

import logging
import re

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, T5Config
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from job.errors import SettingsError
from job.model.targets import choose_targets, default_targets, shortest_names
from tests.zoo.families import FAMILIES

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


T5S = ("t5", "flan_t5", "flan_ul2", "mt5", "byt5", "umt5", "longt5_local", "longt5_global", "switch")
MERGED = {
    "phi3": "qkv_proj", "gpt2": "c_attn", "openai_gpt": "c_attn", "gpt_bigcode": "c_attn", "codegen": "qkv_proj",
    "gpt_neox": "query_key_value", "bloom": "query_key_value", "mpt": "Wqkv", "falcon": "query_key_value",
    "falcon_alibi": "query_key_value", "falcon_new": "query_key_value", "persimmon": "query_key_value",
}  # fmt: skip
"""Families that make queries, keys and values in one layer."""
LATENT = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite")
OTHERS = {
    "led": "q_proj query v_proj value", "bigbird_pegasus": "q_proj query v_proj value", "prophetnet": "query_proj value_proj",
    "phi": "fc1 fc2 q_proj v_proj", "bert2bert": "query value", "jetmoe": "kv_proj", "lfm2_moe": "in_proj q_proj v_proj",
    "qwen3_5_moe": "in_proj_qkv q_proj v_proj",
    **dict.fromkeys(LATENT, "kv_a_proj_with_mqa kv_b_proj q_a_proj q_b_proj"),
    "jamba": "in_proj q_proj v_proj x_proj",
    "mamba": "in_proj x_proj", "falcon_mamba": "in_proj x_proj", "mamba2": "in_proj", "bamba": "in_proj q_proj v_proj",
    "falcon_h1": "in_proj q_proj v_proj", "granite_hybrid": "in_proj q_proj v_proj", "nemotron_h": "k_proj o_proj q_proj v_proj",
    "zamba2": "in_proj q_proj v_proj", "lfm2": "in_proj q_proj v_proj", "qwen3_next": "in_proj_qkvz q_proj v_proj",
    "qwen3_5": "in_proj_qkv q_proj v_proj", "minimax": "q_proj qkv_proj v_proj", "rwkv": "key receptance value",
    "recurrent_gemma": "linear_x linear_y q_proj v_proj",
}  # fmt: skip
EXPECTED = dict.fromkeys(T5S, "q v") | MERGED | OTHERS
"""Names of what `auto` adapts, where it is not q_proj and v_proj."""
NEVER = re.compile(r"vision|projector|router|\.gate$|_gate$|expert_\d|experts|lm_head|embed_out|output_projection|conv1d|dt_proj")
WITHOUT = {"nemotron_h": 2}
"""Blocks without LoRA: PEFT's table names the attention of Nemotron-H alone."""


def adapted(family: str, targets: str) -> PeftModel:
    torch.manual_seed(0)
    model, _ = FAMILIES[family]()
    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    config = LoraConfig(task_type=kind, r=2, target_modules=choose_targets((targets,), model), init_lora_weights=False)
    return get_peft_model(model, config)


def names_of(model: PeftModel) -> set[str]:
    """What PEFT adapted, whatever it was told."""
    ending = ".lora_A.default"
    return {
        name.removeprefix("base_model.model.").removesuffix(ending) for name, _ in model.named_modules() if name.endswith(ending)
    }


def text_blocks(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, GradientCheckpointingLayer) and "vision" not in name and "mamba_decoder" not in name
    ]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore:Recommended")  # of GPT-2's layers; of a package for Marian
@pytest.mark.parametrize("family", FAMILIES)
def test_auto_adapts_queries_and_values_in_every_block_of_every_family_and_trains_all_of_them(family):
    model = adapted(family, "auto")
    names = names_of(model)
    assert {name.rpartition(".")[2] for name in names} == set(EXPECTED.get(family, "q_proj v_proj").split())
    assert not [name for name in names if NEVER.search(name)]
    blocks = text_blocks(model.get_base_model())
    assert sum(not any(name.startswith(f"{block}.") for name in names) for block in blocks) == WITHOUT.get(family, 0)
    ids = torch.randint(3, 100, (2, 24))
    decoder = {"decoder_input_ids": ids[:, :8]} if model.config.is_encoder_decoder else {}
    logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **decoder).logits
    logits.float().logsumexp(-1).sum().backward()
    assert not [name for name, weight in model.named_parameters() if "lora_B" in name and not weight.grad.abs().sum() > 0]


KEPT_BY_NAME = re.compile(r"\.(gate_proj|up_proj|down_proj|gate)$")
TAKEN_FOR_EXPERTS = ("qwen3_moe", "deepseek_v2", "deepseek_v3", "olmoe", "glm4_moe", "ernie_moe", "qwen3_next", "deepseek_v32",
                     "glm4_moe_lite", "hunyuan_moe", "dots1", "afmoe")  # fmt: skip


@pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore:Recommended")  # of GPT-2's layers; of a package for Marian
@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_adapts_all_others_than_heads_routers_vision_and_what_a_kernel_reads(family):
    model, _ = FAMILIES[family]()
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    expected = {
        name
        for name in linear
        if not re.search(r"vision|projector|router|\.gate(\.|$)|expert_gate$|^lm_head(\.out_proj)?$|^head$", name)
    }
    expected -= {"output_projection", "decoder", "decoder.cls.predictions.decoder"}
    mamba = {"mamba", "falcon_mamba", "mamba2", "jamba", "bamba", "falcon_h1", "granite_hybrid", "zamba2", "nemotron_h"}
    if family in mamba:
        expected = {name for name in expected if not re.search(r"(mixer|mamba)\.(dt_proj|out_proj)$", name)}
    if family == "rwkv":
        expected = {name for name in expected if not re.search(r"attention\.output$|feed_forward\.value$", name)}
    if family in TAKEN_FOR_EXPERTS:
        expected = {name for name in expected if not KEPT_BY_NAME.search(name)}
    assert names_of(adapted(family, "all-linear")) == expected


def test_what_is_adapted_and_what_is_left_out_is_told_in_one_line(caplog):
    caplog.set_level(logging.INFO)
    for family in ("flan_t5", "gemma3_with_vision", "qwen3_next", "mamba"):
        choose_targets(("auto",), FAMILIES[family]()[0])
    assert [record.getMessage() for record in caplog.records if record.name == "job.model.targets"] == [
        "LoRA on 12 layers: q (6), v (6)",
        "LoRA on 4 layers: q_proj (2), v_proj (2); left out: vision and audio parts, which text does not pass (9)",
        "LoRA on 3 layers: in_proj_qkvz (1), q_proj (1), v_proj (1); left out: layers that PEFT takes for experts by their name "
        "(6), routers (2), tensors of fused experts (4)",
        "LoRA on 4 layers: in_proj (2), x_proj (2); left out: layers whose weights are used without a call (4)",
    ]


def test_a_family_that_nobody_knows_gets_lora_on_its_attention_or_else_on_all_linear_layers():
    model, _ = FAMILIES["llama"]()
    model.config.model_type = "made_up"
    assert "made_up" not in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert choose_targets(("auto",), model) == ["q_proj", "v_proj"]
    for block in model.model.layers:
        attention = block.self_attn
        attention.one, attention.two = attention.q_proj, attention.v_proj
        del attention.q_proj, attention.v_proj
    assert choose_targets(("auto",), model) == ["k_proj", "o_proj", "one", "two"]
    for block in model.model.layers:
        block.thinks = block.self_attn
        del block.self_attn
    assert choose_targets(("auto",), model) == ["down_proj", "gate_proj", "k_proj", "o_proj", "one", "two", "up_proj"]


def test_names_of_the_table_that_the_model_does_not_have_are_not_taken():
    model, _ = FAMILIES["phi3"]()
    model.config.model_type = "llama"
    assert choose_targets(("auto",), model) == ["qkv_proj"]


def test_names_that_a_person_gives_mean_the_layers_that_text_passes():
    model, _ = FAMILIES["gemma3_with_vision"]()
    assert sorted(choose_targets(("q_proj", "fc1"), model)) == [
        "model.language_model.layers.0.self_attn.q_proj",
        "model.language_model.layers.1.self_attn.q_proj",
        "model.vision_tower.encoder.layers.0.mlp.fc1",
        "model.vision_tower.head.mlp.fc1",
    ]
    assert choose_targets(("lm_head",), model) == ["lm_head"], "what is named is taken"
    model, _ = FAMILIES["switch"]()
    assert choose_targets(("router.classifier",), model) == ["classifier"]


def test_targets_are_checked_one_by_one():
    model, _ = FAMILIES["flan_t5"]()
    assert choose_targets(("q", "DenseReluDense.wo"), model) == ["q", "wo"]
    with pytest.raises(SettingsError, match='named "query"'):
        choose_targets(("q", "query"), model)


def test_a_target_is_a_module_not_a_part_of_a_name_nor_a_block():
    model, _ = FAMILIES["flan_t5"]()
    for target in ("DenseReluDense", "SelfAttention", "_0", ""):
        with pytest.raises(SettingsError, match=f'no module of the model is named "{target}"; there are k, lm_head, o, q, v, wi_0'):
            choose_targets((target,), model)


def test_a_name_that_peft_would_take_for_fused_experts_is_refused():
    model, _ = FAMILIES["deepseek_v3"]()
    said = r'^TARGET_MODULES: "down_proj" would mean the fused experts of this deepseek_v3, .* Leave out down_proj, gate, gate_proj'
    with pytest.raises(SettingsError, match=said):
        choose_targets(("q_a_proj", "down_proj"), model)


@pytest.mark.parametrize(
    ("chosen", "others", "found"),
    [
        (["a.0.q", "a.1.q"], ["a", "a.0.k"], ["q"]),
        (["a.0.x.q", "a.1.x.q"], ["a.0.y.q"], ["x.q"]),
        (["a.0.x.q"], ["b.0.x.q"], ["a.0.x.q"]),
        (["a.1.q"], ["a.11.q", "a.1.qq"], ["1.q"]),
    ],
)
def test_names_are_as_short_as_they_can_be(chosen, others, found):
    assert shortest_names(chosen, chosen + others) == found


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_the_default_is_what_peft_itself_would_choose(kind, request):
    auto = AutoModelForSeq2SeqLM if kind == "t5_folder" else AutoModelForCausalLM
    model = auto.from_pretrained(request.getfixturevalue(kind))
    expected = default_targets(model)
    assert names_of(get_peft_model(model, LoraConfig(r=2))) == set(expected)
