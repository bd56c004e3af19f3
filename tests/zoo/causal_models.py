"""Tiny causal models with attention alone, a function a family; the first line of its docstring names the published models."""

import transformers

from tests.zoo import vocabularies
from tests.zoo.tiny import SIZES, Tiny, causal, embeddings, model_of, special_ids

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
    """Qwen 1.5, 2, 2.5, QwQ, instruct models."""
    return causal("Qwen2", vocabularies.qwen())


def qwen2_base() -> Tiny:
    """Qwen 2 and 2.5, base models: <|im_end|> is no end marker."""
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


def gpt2() -> Tiny:
    """GPT-2 to XL, DistilGPT-2, DialoGPT, GPT-SW3, Cerebras-GPT."""
    return _gpt2("GPT2", "LMHeadModel"), vocabularies.gpt2()


def gpt_bigcode() -> Tiny:
    """StarCoder, SantaCoder: GPT-2 with one key and value for all heads."""
    return _gpt2("GPTBigCode", "ForCausalLM"), vocabularies.gpt2()


def gpt_neo() -> Tiny:
    """GPT-Neo 125M to 2.7B: every other layer has a window, here shorter than the rows."""
    return causal("GPTNeo", vocabularies.gpt2(), num_layers=2, attention_types=[[["global", "local"], 1]], window_size=16)


def gptj() -> Tiny:
    """GPT-J 6B, GPT-JT."""
    config = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 4}
    return causal("GPTJ", vocabularies.gpt2(), **config)


def codegen() -> Tiny:
    """CodeGen 350M to 16B, Moss."""
    config = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 4}
    return causal("CodeGen", vocabularies.gpt2(), **config)


def gpt_neox() -> Tiny:
    """Pythia, GPT-NeoX, Dolly, RedPajama, StableLM alpha."""
    return causal("GPTNeoX", vocabularies.gpt2())


def starcoder2() -> Tiny:
    """StarCoder 2 3B to 15B."""
    return causal("Starcoder2", vocabularies.gpt2(), sliding_window=None)


def opt() -> Tiny:
    """OPT 125M to 66B, Galactica: learned positions, counted from the mask."""
    vocabulary, merges = vocabularies.byte_pairs(("<s>", "<pad>", "</s>", "<unk>"))
    ends = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    return causal("OPT", transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges, **ends), ffn_dim=64, word_embed_proj_dim=32)


def xglm() -> Tiny:
    """XGLM 564M to 7.5B: sinusoidal positions."""
    tokenizer = vocabularies.fairseq("XGLMTokenizer")
    return causal("XGLM", tokenizer, d_model=32, num_layers=2, attention_heads=4, ffn_dim=64)


def bloom() -> Tiny:
    """BLOOM, BLOOMZ 560M to 176B: ALiBi."""
    return causal("Bloom", vocabularies.bos("<pad>", pad_token="<pad>", padding_side="left"))


def mpt() -> Tiny:
    """MPT 7B and 30B: ALiBi."""
    return causal("Mpt", vocabularies.gpt2(), d_model=32, n_layers=2, n_heads=4, max_seq_len=256)


def falcon() -> Tiny:
    """Falcon 7B: one key and value for all heads."""
    return causal("Falcon", vocabularies.gpt2(), alibi=False, multi_query=True, new_decoder_architecture=False)


def falcon_alibi() -> Tiny:
    """Falcon-RW 1B and 7B: ALiBi."""
    return causal("Falcon", vocabularies.gpt2(), alibi=True, multi_query=False)


def falcon_new() -> Tiny:
    """Falcon 40B and 180B, Falcon 2 11B."""
    return causal("Falcon", vocabularies.gpt2(), alibi=False, new_decoder_architecture=True, num_kv_heads=2)


def persimmon() -> Tiny:
    """Persimmon 8B, the text part of Fuyu."""
    return causal("Persimmon", vocabularies.bos())


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


def cohere() -> Tiny:
    """Command R and R+, Aya 23: attention and feed-forward side by side, scaled logits."""
    return causal("Cohere", vocabularies.bos())


def cohere2() -> Tiny:
    """Command R7B and A, Aya Expanse's kin."""
    return causal("Cohere2", vocabularies.bos(), sliding_window=16, layer_types=["sliding_attention", "full_attention"])


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


def biogpt() -> Tiny:
    """BioGPT: learned positions, counted from the mask."""
    return causal("BioGpt", vocabularies.bos("<pad>", pad_token="<pad>"))


def _gpt2(kind: str, ending: str) -> transformers.PreTrainedModel:
    tokenizer = vocabularies.gpt2()
    config = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": embeddings(tokenizer)}
    return model_of(kind, ending, **config, **special_ids(tokenizer))
