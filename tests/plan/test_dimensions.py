"""The numbers of a model against the modules that transformers makes of its config, and the FLOPs against those torch counts."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, PreTrainedConfig, T5Config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pytorch_utils import Conv1D

from job.errors import SettingsError
from job.model.checkpointing import transformer_blocks
from job.model.objective import frozen_last_head
from job.model.targets import choose_targets
from job.plan import dimensions as counted
from job.plan.dimensions import head_is_last, read_dimensions, without_weights
from job.plan.model_catalogue import known_config
from tests.zoo.families import FAMILIES


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


@pytest.mark.parametrize(
    ("size", "parameters", "adapter"),
    [("small", 76_961_152, 688_128), ("base", 247_577_856, 1_769_472), ("large", 783_150_080, 4_718_592),
     ("xl", 2_849_757_184, 9_437_184), ("xxl", 11_135_332_352, 18_874_368)],
)  # fmt: skip
def test_the_shape_counts_the_parameters_of_the_published_models(size, parameters, adapter):
    dimensions = read_dimensions(flan(size))
    assert dimensions.parameters == parameters
    assert dimensions.adapter(16) == adapter


def test_flops_are_those_of_the_published_table():
    """Useful GFLOP an example at 150 source and 30 target tokens: small to XXL 19, 78, 273, 1008, 3973."""
    sizes = ("small", "base", "large", "xl", "xxl")
    found = [read_dimensions(flan(size)).training_flops(150, 30) / 1e9 for size in sizes]
    assert found == pytest.approx([19, 78, 273, 1008, 3973], rel=0.03)


def built(config: PreTrainedConfig) -> nn.Module:
    with torch.device("meta"):
        return (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config)


SMALL = {
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 4},
    "opt": {"hidden_size": 48, "ffn_dim": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 48},
    "gpt_neox": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
    "gpt_bigcode": {"n_embd": 48, "n_layer": 3, "n_head": 4},
    "starcoder2": {
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "mpt": {"d_model": 48, "n_layers": 3, "n_heads": 4},
    "phi": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
    "bloom": {"hidden_size": 48, "n_layer": 3, "n_head": 4},
    "llama": {
        "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "qwen3": {
        "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "tie_word_embeddings": True,
    },
    "gemma2": {
        "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32,
    },
    "t5": {"d_model": 48, "d_ff": 96, "d_kv": 8, "num_layers": 3, "num_heads": 4, "feed_forward_proj": "relu"},
    "mt5": {"d_model": 48, "d_ff": 96, "d_kv": 8, "num_layers": 3, "num_heads": 4},
    "bart": {
        "d_model": 48, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "encoder_layers": 3, "decoder_layers": 3,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", SMALL)
def test_the_linear_layers_have_the_parameters_of_those_that_transformers_makes(kind):
    config = CONFIG_MAPPING[kind](vocab_size=500, pad_token_id=0, bos_token_id=0, eos_token_id=1, **SMALL[kind])
    model = built(config)
    head, weights = model.get_output_embeddings(), {}
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            weights[id(module.weight)] = module.weight.numel()
    dimensions = read_dimensions(config)
    assert dimensions.linears == sum(weights.values())
    assert dimensions.seq2seq == (kind in ("t5", "mt5", "bart"))
    tables = {id(table.weight): table.weight.numel() for table in (model.get_input_embeddings(), head)}
    own_head = 500 * 48 if kind == "mt5" else 0  # which `from_config` ties
    assert dimensions.embeddings == sum(tables.values()) + own_head
    everything = {id(parameter): parameter.numel() for parameter in model.parameters()}
    assert dimensions.parameters == sum(everything.values()) + own_head


def test_only_a_gated_t5_has_a_head_of_its_own_and_others_as_their_config_says():
    assert read_dimensions(T5Config()).embeddings == 32128 * 512, "T5 1.0 ties it"
    assert read_dimensions(flan("small")).embeddings == 2 * 32128 * 512
    assert read_dimensions(LlamaConfig(**SMALL["llama"], tie_word_embeddings=False)).embeddings == 2 * 32000 * 48
    assert read_dimensions(LlamaConfig(**SMALL["llama"], tie_word_embeddings=True)).embeddings == 32000 * 48


def test_an_mt5_counts_the_parameters_of_the_published_model():
    config = CONFIG_MAPPING["mt5"](vocab_size=250112, d_model=512, d_ff=1024, d_kv=64, num_layers=8, num_heads=6)
    assert read_dimensions(config).parameters == 300_176_768  # google/mt5-small


def test_the_adapter_has_the_parameters_that_peft_gives_it_where_heads_share_keys():
    config = LlamaConfig(vocab_size=500, **SMALL["llama"])
    adapted = get_peft_model(built(config), LoraConfig(task_type="CAUSAL_LM", r=5, target_modules=["q_proj", "v_proj"]))
    assert read_dimensions(config).adapter(5) == adapted.get_nb_trainable_parameters()[0]


def counted_flops(model: nn.Module, **inputs: torch.Tensor) -> int:
    """Of a forward and a backward pass through frozen weights to the embeddings, by torch, products of the rotation left out."""
    model.requires_grad_(False)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model(**inputs, use_cache=False).logits.sum().backward()
    rotation = sum(sum(found.values()) for name, found in counter.get_flop_counts().items() if name.endswith("rotary_emb"))
    return counter.get_total_flops() - rotation


def test_the_flops_of_an_encoder_decoder_are_those_that_torch_counts():
    config = T5Config(vocab_size=500, **SMALL["mt5"], feed_forward_proj="gated-gelu")
    embeddings = torch.zeros(1, 30, 48, requires_grad=True), torch.zeros(1, 7, 48, requires_grad=True)
    found = counted_flops(
        AutoModelForSeq2SeqLM.from_config(config), inputs_embeds=embeddings[0], decoder_inputs_embeds=embeddings[1]
    )
    assert read_dimensions(config).training_flops(30, 7) == found


def test_the_flops_of_a_causal_model_are_those_that_torch_counts_without_what_looks_ahead():
    config = LlamaConfig(vocab_size=500, **SMALL["llama"])
    embeddings = torch.zeros(1, 37, 48, requires_grad=True)
    found = counted_flops(AutoModelForCausalLM.from_config(config), inputs_embeds=embeddings)
    looking_ahead = 12 * 48 * 3 * 37**2 / 2  # half of the scores; eager attention computes them all
    assert read_dimensions(config).training_flops(30, 7) == found - looking_ahead


@pytest.mark.filterwarnings("ignore:Recommended")  # a package for Marian
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_parameters_adapter_and_kind_of_its_tiny_model(family):
    """But for output layers that the config of a gated T5 forgets, which published models have."""
    model, _ = FAMILIES[family]()
    forgets = model.config.model_type in ("umt5", "longt5")
    own_head = model.get_output_embeddings().weight.numel() if forgets else 0
    targets, kind = choose_targets(("auto",), model), "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    dimensions, everything = read_dimensions(model.config), sum(parameter.numel() for parameter in model.parameters())
    assert dimensions.parameters == everything + own_head
    assert dimensions.seq2seq == model.config.is_encoder_decoder
    assert dimensions.blocks == (len(transformer_blocks(model)) or model.config.num_hidden_layers) > 0
    adapted = get_peft_model(model, LoraConfig(task_type=kind, r=3, target_modules=targets, fan_in_fan_out=family in CONV1D))
    assert dimensions.adapter(3) == adapted.get_nb_trainable_parameters()[0]


CONV1D = ("gpt2",)


def test_a_config_that_makes_no_model_is_told_in_one_line():
    config = LlamaConfig(**SMALL["llama"])
    config.hidden_act = "nothing"
    with pytest.raises(SettingsError) as raised:
        read_dimensions(config)
    assert str(raised.value).startswith("MODEL_ID: the config of this llama makes no model that can be planned for: ")
    assert str(raised.value).endswith("Check its config.json, or choose another MODEL_ID.")
    assert "\n" not in str(raised.value)


def test_an_error_of_the_count_itself_is_not_taken_for_one_of_the_config(monkeypatch):
    monkeypatch.setattr(counted, "_read", {})
    monkeypatch.setattr(counted, "read_stack", lambda *_: max([]))
    with pytest.raises(ValueError, match="empty"):
        read_dimensions(LlamaConfig(**SMALL["llama"]))


def test_a_model_with_code_of_its_own_is_made_with_that_code(monkeypatch):
    own, asked = type("OwnConfig", (LlamaConfig,), {"__module__": "transformers_modules.mine"}), []
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", lambda config, **options: asked.append(options))
    without_weights(own(**SMALL["llama"]), dtype=torch.float16)
    without_weights(LlamaConfig(**SMALL["llama"]))
    assert asked == [{"trust_remote_code": True, "dtype": torch.float16}, {}]


def test_a_model_is_made_once_for_one_config_and_again_for_another():
    config, calls = LlamaConfig(**SMALL["llama"]), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counted, "_read", {})
        make = counted.without_weights
        patch.setattr(counted, "without_weights", lambda config: calls.append(config) or make(config))
        assert read_dimensions(config) is read_dimensions(copy.deepcopy(config))
        config.num_hidden_layers += 1
        assert read_dimensions(config).blocks == 4
    assert len(calls) == 2


@pytest.mark.parametrize(("family", "caution"), [
    ("flan_t5", 1), ("umt5", 1), ("bart", 1), ("llama", 1), ("gemma3", 1), ("gemma2", 2), ("t5gemma", 2), ("longt5_local", 2),
    ("mixtral", 2), ("switch", 2), ("lfm2", 2), ("mamba", 8), ("jamba", 8), ("qwen3_next", 8), ("granite_hybrid", 8),
])  # fmt: skip
def test_what_was_not_measured_is_counted_generously_and_called_an_estimate(family, caution):
    dimensions = read_dimensions(FAMILIES[family]()[0].config)
    assert (dimensions.caution, dimensions.is_estimate) == (caution, caution > 1)


@pytest.mark.parametrize(
    ("family", "is_last"),
    [
        ("flan_t5", True),
        ("llama", True),
        ("gemma3", True),
        ("bart", False),
        ("gemma2", False),
        ("cohere", False),
        ("modernbert_decoder", True),
    ],
)
def test_logits_that_the_model_adds_to_caps_or_scales_are_there_all_at_once(family, is_last):
    """As the objective finds by trying it on the weights."""
    model = FAMILIES[family]()[0].requires_grad_(False)
    assert (frozen_last_head(model) is not None) == is_last
    assert head_is_last(model) == is_last
    assert read_dimensions(model.config).all_logits == (not is_last)
