"""Tiny tokenizers of the kinds that models have, made of a few sentences: SentencePiece as T5 has it, bytes, lower-case words."""

import json
from collections.abc import Sequence
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProphetNetTokenizer, T5Tokenizer

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;'\"/_-()"
SENTENCES = [
    "the total of the order is 12", "where is the train to Paris?", "an old house in the big city", "she said: the price is 3.50!",
    ALPHABET, " ".join(ALPHABET),
] * 20  # fmt: skip


def t5(folder: Path, sentinels: int = 20) -> PreTrainedTokenizerBase:
    """T5's: Unigram from SentencePiece with its NFKC and no bytes to fall back on; then `sentinels`, the last one first."""
    (folder / "sentences.txt").write_text("\n".join(SENTENCES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "sentences.txt"), model_prefix=str(folder / "spiece"), vocab_size=160, hard_vocab_limit=False,
        character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    return T5Tokenizer.from_pretrained(folder, extra_ids=sentinels)


def sentinels_beside(folder: Path) -> PreTrainedTokenizerBase:
    """The same with the sentinels behind its vocabulary, as added tokens alone."""
    tokenizer = t5(folder)
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["model"]["vocab"] = [entry for entry in spec["model"]["vocab"] if "extra_id" not in entry[0]]
    sentinels = [token["content"] for token in spec["added_tokens"] if "extra_id" in token["content"]]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)), extra_special_tokens=sentinels, **tokenizer.special_tokens_map
    )
    assert made.get_vocab() == tokenizer.get_vocab()
    return made


def byte_level(special: Sequence[str] = ("<|endoftext|>",)) -> PreTrainedTokenizerBase:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=[*special])
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], pad_token=special[0])


SPECIAL = {"pad_token": "[PAD]", "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]"}


def lower_case() -> PreTrainedTokenizerBase:
    """WordPiece that lower-cases, as BERT has it; decoded, it has a space around each sign."""
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"[unused{number}]" for number in range(9))]
    pieces += [prefix + letter for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for prefix in ("", "##")] + list(".,?!:\"'")
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def slow(folder: Path) -> PreTrainedTokenizerBase:
    """One in Python alone: ProphetNet's."""
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[X_SEP]", "[MASK]", "the", "order", "."]))
    return ProphetNetTokenizer(str(folder / "vocab.txt"))
