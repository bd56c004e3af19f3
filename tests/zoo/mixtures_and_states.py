"""Tiny causal models with experts, or with layers that carry a state instead of attention: a function a family."""

import torch

from tests.zoo import vocabularies
from tests.zoo.tiny import Tiny, causal

MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
          "layer_types": ["linear_attention", "full_attention"]}  # fmt: skip


def mixtral() -> Tiny:
    """Mixtral 8x7B and 8x22B."""
    return causal("Mixtral", vocabularies.bos(), num_local_experts=4, num_experts_per_tok=2)


def qwen2_moe() -> Tiny:
    """Qwen 1.5 MoE, Qwen 2 57B-A14B."""
    return causal("Qwen2Moe", vocabularies.qwen(), **EXPERTS, shared_expert_intermediate_size=32)


def qwen3_moe() -> Tiny:
    """Qwen 3 30B-A3B and 235B-A22B."""
    return causal("Qwen3Moe", vocabularies.qwen(), head_dim=8, **EXPERTS)


def gpt_oss() -> Tiny:
    """gpt-oss 20B and 120B: attention sinks, windows."""
    model, tokenizer = causal(
        "GptOss", vocabularies.gpt2(), head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=128, pad_token_id=0,
        layer_types=["sliding_attention", "full_attention"], rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.fill_(3.0)  # as learned ones: much of the attention goes nowhere
    return model, tokenizer


def deepseek_v2() -> Tiny:
    """DeepSeek V2 and V2 Lite: keys and values from one small vector."""
    return causal("DeepseekV2", vocabularies.bos(), **_deepseek(), topk_method="greedy", n_shared_experts=1)


def deepseek_v3() -> Tiny:
    """DeepSeek V3 and R1, Kimi K2."""
    return causal("DeepseekV3", vocabularies.bos(), **_deepseek(), n_group=2, topk_group=1)


def deepseek_v32() -> Tiny:
    """DeepSeek V3.2: attends to chosen tokens alone."""
    return causal("DeepseekV32", vocabularies.bos(), **_deepseek(), n_group=2, topk_group=1)


def olmoe() -> Tiny:
    """OLMoE 1B-7B."""
    return causal("Olmoe", vocabularies.gpt2(), num_experts=4, num_experts_per_tok=2)


def phimoe() -> Tiny:
    """Phi 3.5 MoE."""
    return causal("Phimoe", vocabularies.bos(), num_local_experts=4, num_experts_per_tok=2)


def granite_moe() -> Tiny:
    """Granite 3 1B-A400M and 3B-A800M."""
    return causal("GraniteMoe", vocabularies.gpt2(), num_local_experts=4, num_experts_per_tok=2)


def granite_moe_shared() -> Tiny:
    """Granite MoE with shared experts."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32}
    return causal("GraniteMoeShared", vocabularies.gpt2(), **experts)


def glm4_moe() -> Tiny:
    """GLM-4.5 and 4.6, GLM-4.5 Air."""
    return causal("Glm4Moe", vocabularies.gpt2(), head_dim=8, **_routed())


def glm4_moe_lite() -> Tiny:
    """GLM-4.7 Flash: keys and values from one small vector."""
    return causal("Glm4MoeLite", vocabularies.gpt2(), **_deepseek())


def ernie_moe() -> Tiny:
    """ERNIE 4.5 21B-A3B and 300B-A47B."""
    experts = {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_num_shared_experts": 1}
    return causal("Ernie4_5_Moe", vocabularies.bos(), **experts)


def hunyuan_moe() -> Tiny:
    """Hunyuan A13B."""
    return causal("HunYuanMoEV1", vocabularies.bos(), head_dim=8, num_experts=4, moe_topk=2)


def minimax_m2() -> Tiny:
    """MiniMax M2: attention and experts."""
    return causal("MiniMaxM2", vocabularies.bos(), head_dim=8, num_local_experts=4, num_experts_per_tok=2)


def dots1() -> Tiny:
    """dots.llm1."""
    groups = {"n_shared_experts": 1, "n_group": 1, "topk_group": 1}
    return causal("Dots1", vocabularies.bos(), head_dim=8, **_routed(), **groups)


def afmoe() -> Tiny:
    """Trinity Nano to Large."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "num_dense_layers": 1}
    return causal("Afmoe", vocabularies.bos(), head_dim=8, **EXPERTS, sliding_window=16, **layers)


def gemma4_moe() -> Tiny:
    """Gemma 4 26B-A4B, its text part."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16, "hidden_size_per_layer_input": 0}
    experts = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
    return causal("Gemma4", vocabularies.gemma(), head_dim=8, global_head_dim=8, **layers, **experts)


def jetmoe() -> Tiny:
    """JetMoE 8B: experts in the attention too."""
    return causal("JetMoe", vocabularies.bos(), kv_channels=8, num_local_experts=4, num_experts_per_tok=2)


def llama4() -> Tiny:
    """Llama 4 Scout and Maverick, their text part: attention in chunks."""
    return causal(
        "Llama4", vocabularies.bos(), head_dim=8, intermediate_size_mlp=64, num_local_experts=4, num_experts_per_tok=1,
        interleave_moe_layer_step=2, no_rope_layers=[1, 0], attention_chunk_size=16,
    )  # fmt: skip


def jamba() -> Tiny:
    """Jamba 1.5 to 1.7: Mamba, attention and experts."""
    return causal(
        "Jamba", vocabularies.gpt2(), num_experts=2, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4, pad_token_id=0,
    )  # fmt: skip


def mamba() -> Tiny:
    """Mamba 130M to 2.8B."""
    return causal("Mamba", vocabularies.gpt2(), state_size=8)


def falcon_mamba() -> Tiny:
    """Falcon Mamba 7B."""
    return causal("FalconMamba", vocabularies.gpt2(), state_size=8)


def mamba2() -> Tiny:
    """Mamba 2, Codestral Mamba."""
    return causal("Mamba2", vocabularies.gpt2(), state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=16)


def bamba() -> Tiny:
    """Bamba 9B: Mamba 2 and attention."""
    return causal("Bamba", vocabularies.bos(), **MAMBA2, attn_layer_indices=[1])


def falcon_h1() -> Tiny:
    """Falcon H1 0.5B to 34B: Mamba 2 and attention side by side."""
    return causal("FalconH1", vocabularies.bos("<pad>", pad_token="<pad>"), **MAMBA2, mamba_d_ssm=64)


def granite_hybrid() -> Tiny:
    """Granite 4 Micro, Tiny and Small: Mamba 2 and attention."""
    sizes = MAMBA2 | {"layer_types": ["mamba", "attention"], "num_local_experts": 0, "shared_intermediate_size": 64}
    return causal("GraniteMoeHybrid", vocabularies.gpt2(), **sizes)


def nemotron_h() -> Tiny:
    """Nemotron-H, Nemotron Nano 2 and 3: Mamba 2 and attention."""
    return causal(
        "NemotronH", vocabularies.bos(), layers_block_type=["mamba", "attention", "mlp"], head_dim=8, ssm_state_size=8,
        mamba_num_heads=8, mamba_head_dim=8, n_groups=1, chunk_size=16,
    )  # fmt: skip


def zamba2() -> Tiny:
    """Zamba 2 1.2B to 7B: Mamba 2 and a shared attention block."""
    return causal(
        "Zamba2", vocabularies.bos(), mamba_d_state=8, n_mamba_heads=8, mamba_headdim=8, mamba_ngroups=1, chunk_size=16,
        layers_block_type=["mamba", "hybrid"],
    )  # fmt: skip


def lfm2() -> Tiny:
    """LFM2 350M to 2.6B: short convolutions and attention."""
    return causal("Lfm2", vocabularies.gpt2(), layer_types=["conv", "full_attention"])


def lfm2_moe() -> Tiny:
    """LFM2 8B-A1B."""
    return causal("Lfm2Moe", vocabularies.gpt2(), layer_types=["conv", "full_attention"], **EXPERTS, num_dense_layers=1)


def qwen3_next() -> Tiny:
    """Qwen 3 Next 80B-A3B: linear attention and experts."""
    return causal("Qwen3Next", vocabularies.qwen(), head_dim=8, **LINEAR, **EXPERTS, shared_expert_intermediate_size=32)


def qwen3_5() -> Tiny:
    """Qwen 3.5, its text part: linear attention."""
    return causal("Qwen3_5", vocabularies.qwen(), head_dim=8, **LINEAR)


def qwen3_5_moe() -> Tiny:
    """Qwen 3.5 with experts, its text part."""
    return causal("Qwen3_5Moe", vocabularies.qwen(), head_dim=8, **LINEAR, **EXPERTS, shared_expert_intermediate_size=32)


def olmo_hybrid() -> Tiny:
    """OLMo Hybrid 7B: linear attention."""
    return causal("OlmoHybrid", vocabularies.gpt2(), **LINEAR)


def minimax() -> Tiny:
    """MiniMax-Text-01 and M1: linear attention and experts."""
    layers = {"layer_types": ["linear_attention", "full_attention"], "block_size": 16}
    return causal("MiniMax", vocabularies.bos(), num_local_experts=4, num_experts_per_tok=2, **layers)


def recurrent_gemma() -> Tiny:
    """RecurrentGemma 2B and 9B."""
    sizes = {"lru_width": 32, "attention_window_size": 16, "block_types": ["recurrent", "attention"]}
    return causal("RecurrentGemma", vocabularies.gemma(), **sizes)


def rwkv() -> Tiny:
    """RWKV 4, Raven."""
    return causal("Rwkv", vocabularies.gpt2(), context_length=256, attention_hidden_size=32)


def _deepseek() -> dict[str, object]:
    heads = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12}
    return heads | _routed() | {"num_key_value_heads": 4}


def _routed() -> dict[str, object]:
    return {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1}
