"""Characters that a tokenizer lacks, put into the places of tokens that nobody uses (ADD_TOKENS).

T5 has 100 sentinels `<extra_id_N>` that only its pre-training used, the last of them hardly ever; others have `<unusedN>` and the
like. Each has a row of its own in the embedding and in the lm_head, so the model stays as it is: nothing is resized or tied, which
would overwrite FLAN-T5's lm_head. In the tokenizer a character takes the place of such a token, as an ordinary piece, so that words
and spaces around it are cut as ever. A character that the normaliser would change has another name inside, one of Unicode's private
ones, and gets its own back when it is decoded. The tokenizer is saved with the adapter, and works without this job.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from job.data.round_trip import COLUMNS, DOUBLE_SPACE, RoundTrip
from job.data.tokenise import Encoding, tokenise
from job.data.unknown_text import BYTE_MODEL, UnknownText, count_unknown, is_special, list_characters
from job.errors import SettingsError

SPARE = re.compile(r"\W*(?:extra_id_|unused|unk_|madeupword|reserved_special_token_)(\d+)\W*")
PRIVATE = 0xF0000
"""First of the code points that Unicode leaves to private use, and that no normaliser changes."""
METASPACE = "▁"
"""What SentencePiece puts for a space."""
ELSEWHERE = f"Choose {BYTE_MODEL}, or one that knows these characters"
ESCAPES = {r"\n": "\n", r"\r": "\r", r"\t": "\t"}
PROBE = "The answer is 12."
KEPT = (
    "model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces", "chat_template",
)  # fmt: skip
"""Of a tokenizer's attributes, beside its special tokens."""


def parse_characters(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    r"""The characters of ADD_TOKENS that `tokenizer` lacks; \n, \r and \t stand for what they do in JSON."""
    for escape, character in ESCAPES.items():
        text = text.replace(escape, character)
    return tuple(RoundTrip(tokenizer).unknown({*text, DOUBLE_SPACE} if DOUBLE_SPACE in text else set(text)))


def choose_characters(missing: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """What ADD_TOKENS=auto adds of what is missing, the most frequent first: as many as there are places, if there are any."""
    characters = [piece for piece in missing if not is_special(piece)]
    return tuple(characters[: len(spare_tokens(tokenizer)) or None])


def spare_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Tokens that nobody uses -> their ids, the least used, which have the highest numbers, first."""
    if not tokenizer.is_fast:
        return {}
    numbered = [
        (int(match[1]), token, index) for token, index in tokenizer.get_vocab().items() if (match := SPARE.fullmatch(token))
    ]
    return {token: index for _, token, index in sorted(numbered, reverse=True)}


def add_tokens(tokenizer: PreTrainedTokenizerBase, characters: Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer like `tokenizer` that knows `characters` too: the same ones always get the same ids.

    Raises SettingsError for a tokenizer that has not enough spare tokens, or with which this would not be sound.
    """
    if not characters:
        return tokenizer
    spare = spare_tokens(tokenizer)
    if len(spare) < len(characters):
        raise SettingsError(
            f"ADD_TOKENS: {len(characters)} characters are to be added, and this model's tokenizer has {len(spare)} spare tokens. "
            f"{ELSEWHERE}, or set ADD_TOKENS=none."
        )
    places = dict(zip(characters, spare.values(), strict=False))
    extended = _rebuild(tokenizer, places)
    _check(tokenizer, extended, characters)
    return extended


def _rebuild(tokenizer: PreTrainedTokenizerBase, places: Mapping[str, int]) -> PreTrainedTokenizerBase:
    """`tokenizer` with characters in `places` (ids). Of the general class: T5's own makes its decoder anew when it is loaded."""
    pieces = {character: _piece(number, character, tokenizer) for number, character in enumerate(places)}
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    taken = set(places.values())
    _rename(spec, {index: pieces[character] for character, index in places.items()})
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["id"] not in taken]
    renamed = {character: piece for character, piece in pieces.items() if piece != character}
    before = [{"type": "Replace", "pattern": _pattern(character), "content": piece} for character, piece in renamed.items()]
    after = [{"type": "Replace", "pattern": {"String": piece}, "content": character[0]} for character, piece in renamed.items()]
    spec["normalizer"] = {"type": "Sequence", "normalizers": [*before, *filter(None, [spec["normalizer"]])]}
    spec["decoder"] = {"type": "Sequence", "decoders": [*filter(None, [spec["decoder"]]), *after]}
    further = [token for token in tokenizer.extra_special_tokens if tokenizer.convert_tokens_to_ids(str(token)) not in taken]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        extra_special_tokens=further,
        **tokenizer.special_tokens_map,
        **{name: getattr(tokenizer, name) for name in KEPT},
    )


def _piece(number: int, character: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """What stands for `character` inside: itself, or a private character where it would be changed before it is looked up."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    within = f"a{character}a"
    is_changed = character not in (normalizer.normalize_str(within) if normalizer else within)
    return chr(PRIVATE + number) if is_changed or character.isspace() or character == METASPACE else character


def _pattern(character: str) -> dict[str, str]:
    """A space is added where another follows it: the last one of several is the tokenizer's own."""
    return {"Regex": " (?= )"} if character == DOUBLE_SPACE else {"String": character}


def _rename(spec: dict[str, Any], pieces: Mapping[int, str]) -> None:
    """Puts `pieces` into the vocabulary of a tokenizer's JSON, at their ids."""
    vocabulary = spec["model"]["vocab"]
    if isinstance(vocabulary, dict):  # token -> id
        taken = [token for token, index in vocabulary.items() if index in pieces]
        for token in taken:
            del vocabulary[token]
        vocabulary.update({piece: index for index, piece in pieces.items()})
        return
    contents = {token["id"]: token["content"] for token in spec["added_tokens"]}  # a list of (token, score), an id is a place in it
    for index in range(len(vocabulary), max(pieces) + 1):
        vocabulary.append([contents[index], 0.0])
    for index, piece in pieces.items():
        vocabulary[index] = [piece, 0.0]


def _check(tokenizer: PreTrainedTokenizerBase, extended: PreTrainedTokenizerBase, characters: Sequence[str]) -> None:
    """Raises SettingsError unless `extended` reads all else as `tokenizer` does, and gives each character back."""
    same = all(tokenizer(**probe).input_ids == extended(**probe).input_ids for probe in ({"text": PROBE}, {"text_target": PROBE}))
    lost = RoundTrip(extended).unknown(set(characters))
    if lost or not same:
        raise SettingsError(
            f"ADD_TOKENS: a tokenizer of this kind, {type(tokenizer).__name__}, cannot be given "
            f"{list_characters(lost or characters)}. {ELSEWHERE}, or set ADD_TOKENS=none."
        )


def tokenise_adding(
    parts: tuple[Dataset, Dataset], encoding: Encoding, wanted: str, num_proc: int, work: Path
) -> tuple[list[Dataset], UnknownText]:
    """Training and held-out examples, tokenised in files in `work`, and what the tokens lack of the texts.

    wanted: ADD_TOKENS. With "auto" all is tokenised twice if the training rows' answers lack something.
    """
    added = () if wanted in ("none", "auto") else parse_characters(wanted, encoding.tokenizer)
    tokenised, unknown = _tokenise(parts, encoding, added, num_proc, work)
    if wanted == "auto" and (added := choose_characters(unknown.answers[0].characters, encoding.tokenizer)):
        tokenised, unknown = _tokenise(parts, encoding, added, num_proc, work)
    return [part.remove_columns(list(COLUMNS)) for part in tokenised], unknown


def _tokenise(
    parts: tuple[Dataset, Dataset], encoding: Encoding, added: tuple[str, ...], num_proc: int, work: Path
) -> tuple[list[Dataset], UnknownText]:
    encoding = replace(encoding, tokenizer=add_tokens(encoding.tokenizer, added))
    tokenised = [
        tokenise(part, replace(encoding, every_answer=name == "train"), num_proc, work / f"tokenised-{name}-{len(added)}.arrow")
        for name, part in zip(("train", "eval"), parts, strict=True)
    ]
    return tokenised, count_unknown(tokenised, added)
