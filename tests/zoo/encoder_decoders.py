"""Tiny encoder-decoders, a function a family; the first line of its docstring names the published models."""

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from tests.zoo import vocabularies
from tests.zoo.tiny import Tiny, embeddings, model_of, special_ids

SIZES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 256, "init_std": 0.6,
}  # fmt: skip
"""Of BART and all that descend from it; see the weights in `tiny.SIZES`."""
T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
GEMMA_SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16, "max_position_embeddings": 256, "initializer_range": 0.2,
}  # fmt: skip


def t5() -> Tiny:
    """The first T5 (t5-small to t5-11b), CodeT5: the head is the embedding."""
    return _t5("T5", vocabularies.t5(), feed_forward_proj="relu", tie_word_embeddings=True)


def flan_t5() -> Tiny:
    """FLAN-T5 small to XXL, T5 v1.1, T0: a head of its own."""
    return _with_own_head(_t5("T5", vocabularies.t5(), feed_forward_proj="gated-gelu", tie_word_embeddings=False))


def flan_ul2() -> Tiny:
    """UL2, FLAN-UL2."""
    return _with_own_head(_t5("T5", vocabularies.t5(), feed_forward_proj="gated-silu", tie_word_embeddings=False))


def mt5() -> Tiny:
    """mT5, mT0, Aya-101."""
    return _with_own_head(_t5("MT5", vocabularies.t5(), feed_forward_proj="gated-gelu", tie_word_embeddings=False))


def byt5() -> Tiny:
    """ByT5: bytes instead of pieces."""
    tokenizer = transformers.ByT5Tokenizer()
    options = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "vocab_size": len(tokenizer)}
    return _with_own_head(_t5("T5", tokenizer, **options))


def umt5() -> Tiny:
    """UMT5 small to XXL: each block has position biases of its own."""
    return _t5("UMT5", vocabularies.t5(), feed_forward_proj="gated-gelu", tie_word_embeddings=False)


def longt5_local() -> Tiny:
    """LongT5 with local attention."""
    return _t5("LongT5", vocabularies.t5(), local_radius=7, encoder_attention_type="local", feed_forward_proj="gated-gelu")


def longt5_global() -> Tiny:
    """LongT5 with transient global attention."""
    kind = {"local_radius": 7, "global_block_size": 4, "encoder_attention_type": "transient-global"}
    return _t5("LongT5", vocabularies.t5(), feed_forward_proj="gated-gelu", **kind)


def switch() -> Tiny:
    """Switch Transformers: T5 with experts."""
    experts = {"num_experts": 4, "expert_capacity": 64, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    return _t5("SwitchTransformers", vocabularies.t5(), num_decoder_layers=2, **experts)


def t5gemma() -> Tiny:
    """T5Gemma 2B-2B to 9B-9B, T5Gemma b/l/xl."""
    tokenizer = vocabularies.gemma()
    module = transformers.T5GemmaModuleConfig(**GEMMA_SIZES, **special_ids(tokenizer), vocab_size=embeddings(tokenizer))
    config = transformers.T5GemmaConfig(encoder=module, decoder=module, vocab_size=embeddings(tokenizer))
    return transformers.T5GemmaForConditionalGeneration(config), tokenizer


def t5gemma2() -> Tiny:
    """T5Gemma 2 270M to 4B, on text alone."""
    tokenizer = vocabularies.gemma()
    text = GEMMA_SIZES | special_ids(tokenizer) | {"vocab_size": embeddings(tokenizer)}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28,
              "patch_size": 14}  # fmt: skip
    encoder = {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    images = {"eoi_token_index": embeddings(tokenizer) - 3, "image_token_index": embeddings(tokenizer) - 2}
    config = transformers.T5Gemma2Config(encoder=encoder, decoder=text, **images)
    return transformers.T5Gemma2ForConditionalGeneration(config), tokenizer


def bart() -> Tiny:
    """BART base and large, DistilBART, BioBART."""
    return _bart("Bart", vocabularies.bart(), forced_eos_token_id=2)


def bart_cnn() -> Tiny:
    """bart-large-cnn and its kin, as published: one token more than embeddings, and ways of answering for summaries."""
    tokenizer = vocabularies.bart(mask=False)
    model, _ = _bart("Bart", tokenizer, vocab_size=len(tokenizer) - 1, forced_bos_token_id=0, forced_eos_token_id=2)
    model.generation_config.update(num_beams=4, min_length=9, no_repeat_ngram_size=3, length_penalty=2.0, early_stopping=True)
    return model, tokenizer


def mvp() -> Tiny:
    """MVP and its models for single tasks: BART again."""
    return _bart("Mvp", vocabularies.bart("MvpTokenizer"))


def blenderbot() -> Tiny:
    """BlenderBot 400M to 3B."""
    tokenizer = vocabularies.bart("BlenderbotTokenizer")
    return _bart("Blenderbot", tokenizer, decoder_start_token_id=tokenizer.bos_token_id)


def blenderbot_small() -> Tiny:
    """BlenderBot 90M."""
    return _bart("BlenderbotSmall", vocabularies.bart())


def plbart() -> Tiny:
    """PLBART: programs and their descriptions."""
    tokenizer = vocabularies.plbart(src_lang="python", tgt_lang="en_XX")
    return _bart("PLBart", tokenizer)


def led() -> Tiny:
    """LED base and large, PRIMERA: BART with windows in its encoder."""
    sizes = {name: value for name, value in SIZES.items() if name != "max_position_embeddings"}
    tokenizer = vocabularies.bart("LEDTokenizer")
    positions = {"max_encoder_position_embeddings": 256, "max_decoder_position_embeddings": 128, "attention_window": 16}
    config = sizes | positions | special_ids(tokenizer) | {"vocab_size": embeddings(tokenizer)}
    return model_of("LED", "ForConditionalGeneration", **config), tokenizer


def pegasus() -> Tiny:
    """Pegasus XSum, CNN/DailyMail, Paraphrase."""
    return _bart("Pegasus", vocabularies.pegasus(), decoder_start_token_id=0)


def pegasus_x() -> Tiny:
    """Pegasus-X base and large: inputs in blocks."""
    blocks = {"block_size": 16, "num_global_tokens": 4, "stagger_local_blocks": False}
    return _bart("PegasusX", vocabularies.pegasus(), decoder_start_token_id=0, **blocks)


def bigbird_pegasus() -> Tiny:
    """BigBird-Pegasus, on inputs short enough for full attention."""
    return _bart("BigBirdPegasus", vocabularies.pegasus(), decoder_start_token_id=0, attention_type="original_full")


def marian() -> Tiny:
    """Helsinki-NLP's opus-mt."""
    tokenizer = vocabularies.marian()
    pad = tokenizer.pad_token_id
    model, _ = _bart("Marian", tokenizer, vocab_size=len(tokenizer), decoder_start_token_id=pad, forced_eos_token_id=0)
    model.generation_config.bad_words_ids = [[pad]]
    return model, tokenizer


def mbart() -> Tiny:
    """mBART-25 (mbart-large-cc25, mbart-large-en-ro)."""
    return _bart("MBart", vocabularies.fairseq("MBartTokenizer", src_lang="en_XX", tgt_lang="de_DE"))


def mbart50() -> Tiny:
    """mBART-50, one to many and many to many."""
    tokenizer = vocabularies.fairseq("MBart50Tokenizer", src_lang="en_XX", tgt_lang="de_DE")
    return _translator(_bart("MBart", tokenizer, decoder_start_token_id=2), "de_DE")


def m2m100() -> Tiny:
    """M2M100 418M and 1.2B, SMALL-100."""
    tokenizer = vocabularies.m2m100(src_lang="en", tgt_lang="de")
    embedded = max(tokenizer.lang_code_to_id.values()) + 1 + tokenizer.num_madeup_words
    return _translator(_bart("M2M100", tokenizer, decoder_start_token_id=2, vocab_size=embedded), "__de__")


def nllb() -> Tiny:
    """NLLB-200 with its languages set."""
    tokenizer = vocabularies.nllb(src_lang="eng_Latn", tgt_lang="deu_Latn")
    return _translator(_bart("M2M100", tokenizer, decoder_start_token_id=2), "deu_Latn")


def nllb_plain() -> Tiny:
    """NLLB-200 distilled 600M to 3.3B, as published: no language of the answers."""
    return _bart("M2M100", vocabularies.nllb(), decoder_start_token_id=2)


def nllb_moe() -> Tiny:
    """NLLB-MoE 54B."""
    experts = {"num_experts": 4, "expert_capacity": 64, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
    tokenizer = vocabularies.nllb(src_lang="eng_Latn", tgt_lang="deu_Latn")
    return _translator(_bart("NllbMoe", tokenizer, decoder_start_token_id=2, **experts), "deu_Latn")


def prophetnet() -> Tiny:
    """ProphetNet: predicts several tokens at once while it learns."""
    tokenizer = vocabularies.prophetnet()
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4}
    config = transformers.ProphetNetConfig(
        hidden_size=32, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=256, vocab_size=len(tokenizer),
        **layers, init_std=0.6, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.ProphetNetForConditionalGeneration(config), tokenizer


def bert2bert() -> Tiny:
    """BERT2BERT and the like: two encoders that were made one encoder-decoder."""
    tokenizer = vocabularies.bos("<pad>", pad_token="<pad>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    encoder, decoder = (transformers.BertConfig(**sizes, vocab_size=embeddings(tokenizer), initializer_range=0.2) for _ in range(2))
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder, **special_ids(tokenizer))
    config.decoder_start_token_id = tokenizer.bos_token_id
    return transformers.EncoderDecoderModel(config), tokenizer


def _t5(kind: str, tokenizer: PreTrainedTokenizerBase, **options: object) -> Tiny:
    config = T5_SIZES | {"vocab_size": embeddings(tokenizer), "pad_token_id": 0, "eos_token_id": 1} | options
    return model_of(kind, "ForConditionalGeneration", **config), tokenizer


def _with_own_head(tiny: Tiny) -> Tiny:
    model, tokenizer = tiny
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * 0.3)
    return model, tokenizer


def _bart(kind: str, tokenizer: PreTrainedTokenizerBase, **options: object) -> Tiny:
    config = SIZES | special_ids(tokenizer) | {"vocab_size": embeddings(tokenizer)} | options
    ending = "MTModel" if kind == "Marian" else "ForConditionalGeneration"
    return model_of(kind, ending, **config), tokenizer


def _translator(tiny: Tiny, language: str) -> Tiny:
    """`tiny`, whose answers begin with the token of a language."""
    model, tokenizer = tiny
    model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(language)
    return model, tokenizer
