"""Tiny tokenizers of every kind that language models have, trained here on made-up sentences, with each family's special tokens."""

import json
import random
import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path

import sentencepiece
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

WORDS = [
    "the", "of", "and", "to", "in", "for", "is", "on", "that", "by", "this", "with", "you", "it", "not", "or", "are", "was",
    "report", "city", "north", "river", "price", "total", "apple", "mother", "seven", "three", "paper", "water", "answer",
    "question", "where", "what", "who", "how", "old", "new", "big", "small", "red", "green", "blue", "house", "street", "train",
    "station",
]  # fmt: skip
VOCABULARY = 400
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen's: an assistant's turn ends with <|im_end|>."""


@cache
def sentences() -> list[str]:
    """Text to train tokenizers on; it has all letters and digits."""
    chosen = random.Random(0)
    made = [" ".join(chosen.choices(WORDS, k=12)) + f"{chosen.choice('.?!,')} {chosen.randint(1, 2999)}" for _ in range(1000)]
    return [*made, "Input: abcdefghijklmnopqrstuvwxyz 0123456789"] * 2


@cache
def byte_pairs(special: tuple[str, ...], by_byte: bool = True) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary, which begins with the `special` tokens, and merges: of bytes as GPT-2's, or else of letters as NLLB's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if by_byte else pre_tokenizers.Metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if by_byte else []
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + 100, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@cache
def sentencepiece_model() -> bytes:
    """A unigram model of SentencePiece, as its file; its first tokens are <unk>, <s> and </s>."""
    file = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=file, vocab_size=VOCABULARY, hard_vocab_limit=False, minloglevel=2,
        character_coverage=1.0,
    )  # fmt: skip
    return file.getvalue()


def pieces() -> list[tuple[str, float]]:
    """Pieces of that model with their scores, without its special tokens."""
    known = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    return [(known.id_to_piece(number), known.get_score(number)) for number in range(3, len(known))]


def t5() -> PreTrainedTokenizerBase:
    """<pad>, </s>, <unk>, then the pieces."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces()]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=20)


def pegasus() -> PreTrainedTokenizerBase:
    """T5's beginning, then the tokens of its pretraining, which real ones leave room for with 103 places."""
    beginning = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return transformers.PegasusTokenizer(vocab=[*beginning, *pieces()], offset=8)


def fairseq(kind: str, **languages: str) -> PreTrainedTokenizerBase:
    """Of the class `kind`: <s>, <pad>, </s>, <unk>, then the pieces; languages come behind."""
    beginning = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return getattr(transformers, kind)(vocab=[*beginning, *pieces()], **languages)


def bart(kind: str = "BartTokenizer", mask: bool = True) -> PreTrainedTokenizerBase:
    """Bytes as RoBERTa has them. mask: whether <mask> is among the first tokens, else it is the last one."""
    vocabulary, merges = byte_pairs(("<s>", "<pad>", "</s>", "<unk>", *(("<mask>",) if mask else ())))
    return getattr(transformers, kind)(vocab=vocabulary | {"<mask>": vocabulary.get("<mask>", len(vocabulary))}, merges=merges)


def nllb(**languages: str) -> PreTrainedTokenizerBase:
    """Pairs of letters, then 202 languages."""
    vocabulary, merges = byte_pairs(("<s>", "<pad>", "</s>", "<unk>"), by_byte=False)
    return transformers.NllbTokenizer(vocab=vocabulary, merges=merges, **languages)


def m2m100(**languages: str) -> PreTrainedTokenizerBase:
    """Its vocabulary and its SentencePiece model are files of their own."""
    return _from_files(transformers.M2M100Tokenizer, ("<s>", "<pad>", "</s>", "<unk>"), ("sentencepiece.bpe.model",), **languages)


def plbart(**languages: str) -> PreTrainedTokenizerBase:
    """Pieces, then the programming languages."""
    return _from_files(transformers.PLBartTokenizer, (), ("sentencepiece.bpe.model",), **languages)


def marian() -> PreTrainedTokenizerBase:
    """</s> first, <pad> last; a SentencePiece model for each of two languages."""
    return _from_files(
        transformers.MarianTokenizer,
        ("</s>", "<unk>"),
        ("source.spm", "target.spm"),
        ("<pad>",),
        source_lang="en",
        target_lang="de",
    )


def prophetnet() -> PreTrainedTokenizerBase:
    """Words and letters in lower case, as BERT's."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[X_SEP]", "[MASK]"]
    words = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted({*WORDS, "input"}), *".,?!:"]
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "prophetnet.tokenizer").write_text("\n".join(words))
        return transformers.ProphetNetTokenizer(str(file))


def gpt2(**options: object) -> PreTrainedTokenizerBase:
    """One special token for both ends, and none to pad with."""
    return _of_bytes(("<|endoftext|>",), bos_token="<|endoftext|>", eos_token="<|endoftext|>", **options)


def bos(*special: str, end: str = "</s>", **options: object) -> PreTrainedTokenizerBase:
    """As Llama's: each text begins with a marker."""
    made = _of_bytes(("<unk>", "<s>", end, *special), unk_token="<unk>", bos_token="<s>", eos_token=end, **options)
    return _with_beginning(made)


def qwen(eos_token: str = "<|im_end|>") -> PreTrainedTokenizerBase:
    """As an instruct model's: ChatML, whose end of a turn is the end marker; a base model's is <|endoftext|>."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return _of_bytes(special, eos_token=eos_token, pad_token="<|endoftext|>", chat_template=CHATML)


def gemma() -> PreTrainedTokenizerBase:
    """<bos> before each text, and a file that says to pad on the left."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return _with_beginning(_of_bytes(special, padding_side="left", **names))


def _of_bytes(special: tuple[str, ...], **options: object) -> PreTrainedTokenizerBase:
    vocabulary, merges = byte_pairs(special)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def _with_beginning(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    beginning, number = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{beginning} $A", pair=f"{beginning} $A $B", special_tokens=[(beginning, number)]
    )
    return tokenizer


def _from_files(
    kind: type, first: tuple[str, ...], models_of_pieces: tuple[str, ...], last: tuple[str, ...] = (), **options: str
) -> PreTrainedTokenizerBase:
    """A tokenizer of class `kind` from vocab.json and SentencePiece models of these names."""
    words = [*first, *(piece for piece, _ in pieces()), *last]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
        for name in models_of_pieces:
            (Path(folder) / name).write_bytes(sentencepiece_model())
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(options))
        return kind.from_pretrained(folder)
