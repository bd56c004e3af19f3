"""Tiny causal models of the kinds that were there before Llama, a function a family; the first line of its docstring names the
published models.
"""

import transformers

from tests.zoo import vocabularies
from tests.zoo.tiny import Tiny, causal, embeddings, model_of, special_ids


def openai_gpt() -> Tiny:
    """The first GPT."""
    return _gpt2("OpenAIGPT", "LMHeadModel")


def gpt2() -> Tiny:
    """GPT-2 to XL, DistilGPT-2, DialoGPT, GPT-SW3, Cerebras-GPT."""
    return _gpt2("GPT2", "LMHeadModel")


def gpt_bigcode() -> Tiny:
    """StarCoder, SantaCoder: GPT-2 with one key and value for all heads."""
    return _gpt2("GPTBigCode", "ForCausalLM")


def gpt_neo() -> Tiny:
    """GPT-Neo 125M to 2.7B: every other layer has a window, here shorter than the rows."""
    return causal("GPTNeo", vocabularies.gpt2(), num_layers=2, attention_types=[[["global", "local"], 1]], window_size=16)


def gptj() -> Tiny:
    """GPT-J 6B, GPT-JT."""
    return _gpt2("GPTJ", "ForCausalLM", rotary_dim=4)


def codegen() -> Tiny:
    """CodeGen 350M to 16B, Moss."""
    return _gpt2("CodeGen", "ForCausalLM", rotary_dim=4)


def gpt_neox() -> Tiny:
    """Pythia, GPT-NeoX, Dolly, RedPajama, StableLM alpha."""
    return causal("GPTNeoX", vocabularies.gpt2())


def opt() -> Tiny:
    """OPT 125M to 66B, Galactica: learned positions, counted from the mask."""
    vocabulary, merges = vocabularies.byte_pairs(("<s>", "<pad>", "</s>", "<unk>"))
    ends = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    return causal(
        "OPT", transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges, **ends), ffn_dim=64, word_embed_proj_dim=32, init_std=0.2
    )


def biogpt() -> Tiny:
    """BioGPT: learned positions, counted from the mask."""
    return causal("BioGpt", vocabularies.bos("<pad>", pad_token="<pad>"))


def xglm() -> Tiny:
    """XGLM 564M to 7.5B: sinusoidal positions."""
    tokenizer = vocabularies.fairseq("XGLMTokenizer")
    return causal("XGLM", tokenizer, d_model=32, num_layers=2, attention_heads=4, ffn_dim=64, init_std=0.2)


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


def _gpt2(kind: str, ending: str, **options: object) -> Tiny:
    """GPT-2 and its kin have names of their own for the sizes."""
    tokenizer = vocabularies.gpt2()
    sizes = {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "vocab_size": embeddings(tokenizer),
        "initializer_range": 0.2,
    }
    return model_of(kind, ending, **sizes, **special_ids(tokenizer), **options), tokenizer
