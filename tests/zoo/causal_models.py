"""Tiny causal models of Llama's kind, a function a family; the first line of its docstring names the published models."""

import transformers

from tests.zoo import vocabularies
from tests.zoo.tiny import SIZES, Tiny, causal, embeddings, special_ids

GEMMA_SIZES = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}


def llama() -> Tiny:
    """Llama 2 and 3, Yi, Vicuna, TinyLlama, SmolLM 1 and 2."""
    return causal("Llama", vocabularies.bos("<|eot_id|>", end="<|end_of_text|>"))


def mistral() -> Tiny:
    """Mistral 7B v0.1, Zephyr: a window of attention, here shorter than the rows."""
    return causal("Mistral", vocabularies.bos(padding_side="left"), sliding_window=16)


def mistral_without_window() -> Tiny:
    """Mistral 7B from v0.2 on, Mistral Nemo and Small."""
    return causal("Mistral", vocabularies.bos(padding_side="left"), sliding_window=None)


def ministral() -> Tiny:
    """Ministral 8B: windows in some layers."""
    return causal("Ministral", vocabularies.bos(), sliding_window=16, head_dim=8)


def ministral3() -> Tiny:
    """Ministral 3 3B to 14B, on text."""
    return causal("Ministral3", vocabularies.bos(), head_dim=8)


def qwen2() -> Tiny:
    """Qwen 1.5, 2, 2.5, QwQ, instruct models, which sample and punish repetition if nobody says otherwise."""
    model, tokenizer = causal("Qwen2", vocabularies.qwen())
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1)
    return model, tokenizer


def qwen2_base() -> Tiny:
    """Qwen 2 and 2.5, base models: what ends a turn of ChatML is not their end marker."""
    return causal("Qwen2", vocabularies.qwen(eos_token="<|endoftext|>"))


def qwen3() -> Tiny:
    """Qwen 3 0.6B to 32B."""
    return causal("Qwen3", vocabularies.qwen(), head_dim=8)


def gemma() -> Tiny:
    """Gemma 2B and 7B, CodeGemma."""
    return causal("Gemma", vocabularies.gemma(), head_dim=8)


def gemma2() -> Tiny:
    """Gemma 2 2B to 27B: attention scores are capped, and so are the logits."""
    return causal("Gemma2", vocabularies.gemma(), **GEMMA_SIZES, attn_logit_softcapping=5.0, final_logit_softcapping=30.0)


def gemma3() -> Tiny:
    """Gemma 3 270M and 1B."""
    return causal("Gemma3", vocabularies.gemma(), **GEMMA_SIZES)


def gemma3_with_vision() -> Tiny:
    """Gemma 3 4B to 27B, on text alone."""
    tokenizer = vocabularies.gemma()
    text = SIZES | GEMMA_SIZES | special_ids(tokenizer) | {"vocab_size": embeddings(tokenizer)}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28,
              "patch_size": 14}  # fmt: skip
    images = {"image_token_index": 410, "boi_token_index": 408, "eoi_token_index": 409, "mm_tokens_per_image": 4}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, **images)
    return transformers.Gemma3ForConditionalGeneration(config), tokenizer


def gemma3n() -> Tiny:
    """Gemma 3n E2B and E4B, their text part."""
    tokenizer = vocabularies.gemma()
    return causal(
        "Gemma3n", tokenizer, head_dim=8, sliding_window=16, num_kv_shared_layers=0, hidden_size_per_layer_input=8, laurel_rank=4,
        vocab_size_per_layer_input=embeddings(tokenizer), layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.0, 0.0],
    )  # fmt: skip


def gemma4() -> Tiny:
    """Gemma 4, its text part."""
    tokenizer = vocabularies.gemma()
    return causal(
        "Gemma4", tokenizer, head_dim=8, global_head_dim=8, sliding_window=16, hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=embeddings(tokenizer), layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip


def phi() -> Tiny:
    """Phi 1, 1.5 and 2."""
    return causal("Phi", vocabularies.gpt2(), num_key_value_heads=4)


def phi3() -> Tiny:
    """Phi 3, 3.5 mini, 4, 4 mini: one matrix for query, key and value."""
    return causal("Phi3", vocabularies.gpt2(), pad_token_id=0, original_max_position_embeddings=256)


def starcoder2() -> Tiny:
    """StarCoder 2 3B to 15B."""
    return causal("Starcoder2", vocabularies.gpt2(), sliding_window=None)


def stablelm() -> Tiny:
    """StableLM 2 1.6B and 12B, StableLM 3B."""
    return causal("StableLm", vocabularies.gpt2())


def olmo() -> Tiny:
    """OLMo 1B and 7B."""
    return causal("Olmo", vocabularies.gpt2())


def olmo2() -> Tiny:
    """OLMo 2 1B to 32B."""
    return causal("Olmo2", vocabularies.gpt2())


def olmo3() -> Tiny:
    """OLMo 3 7B and 32B: windows in three layers of four."""
    return causal("Olmo3", vocabularies.gpt2(), sliding_window=16, layer_types=["sliding_attention", "full_attention"])


SCALE_FOR_32 = 0.75
"""Of logits: Cohere's own, a sixteenth, is for 8,192 numbers a token; from 32 it makes next to nothing that could be learned."""


def cohere() -> Tiny:
    """Command R and R+, Aya 23: attention and feed-forward side by side, scaled logits."""
    return causal("Cohere", vocabularies.bos(), logit_scale=SCALE_FOR_32)


def cohere2() -> Tiny:
    """Command R7B and A, Aya Expanse's kin."""
    kinds = ["sliding_attention", "full_attention"]
    return causal("Cohere2", vocabularies.bos(), sliding_window=16, layer_types=kinds, logit_scale=SCALE_FOR_32)


def granite() -> Tiny:
    """Granite 3 2B and 8B: scaled logits."""
    return causal("Granite", vocabularies.gpt2(), logits_scaling=8.0, attention_multiplier=0.1)


def glm() -> Tiny:
    """GLM-4 9B."""
    return causal("Glm", vocabularies.gpt2(), head_dim=8, pad_token_id=0)


def glm4() -> Tiny:
    """GLM-4-0414 9B and 32B, GLM-Z1."""
    return causal("Glm4", vocabularies.gpt2(), head_dim=8, pad_token_id=0)


def nemotron() -> Tiny:
    """Nemotron 4, Minitron 4B and 8B."""
    return causal("Nemotron", vocabularies.bos())


def smollm3() -> Tiny:
    """SmolLM3 3B: every fourth layer without positions."""
    return causal("SmolLM3", vocabularies.qwen(), no_rope_layers=[1, 0])


def exaone4() -> Tiny:
    """EXAONE 4 1.2B and 32B."""
    return causal("Exaone4", vocabularies.bos(), sliding_window=16, layer_types=["sliding_attention", "full_attention"])


def ernie() -> Tiny:
    """ERNIE 4.5 0.3B."""
    return causal("Ernie4_5", vocabularies.bos(), head_dim=8)


def hunyuan() -> Tiny:
    """Hunyuan 0.5B to 7B."""
    return causal("HunYuanDenseV1", vocabularies.bos(), head_dim=8)


def seed_oss() -> Tiny:
    """Seed-OSS 36B."""
    return causal("SeedOss", vocabularies.bos(), head_dim=8)


def apertus() -> Tiny:
    """Apertus 8B and 70B."""
    return causal("Apertus", vocabularies.bos())


def arcee() -> Tiny:
    """Arcee AFM 4.5B."""
    return causal("Arcee", vocabularies.bos())


def helium() -> Tiny:
    """Helium 1 2B."""
    return causal("Helium", vocabularies.bos(), head_dim=8)


def vaultgemma() -> Tiny:
    """VaultGemma 1B."""
    return causal("VaultGemma", vocabularies.gemma(), **GEMMA_SIZES)


def nanochat() -> Tiny:
    """nanochat d20 to d32."""
    return causal("NanoChat", vocabularies.bos())


def bitnet() -> Tiny:
    """BitNet b1.58 2B4T, with weights in full."""
    return causal("BitNet", vocabularies.bos())


def diffllama() -> Tiny:
    """DiffLlama: the difference of two attentions."""
    return causal("DiffLlama", vocabularies.bos())


def modernbert_decoder() -> Tiny:
    """Ettin decoders 17M to 1B."""
    return causal("ModernBertDecoder", vocabularies.bos("<pad>", pad_token="<pad>"))
