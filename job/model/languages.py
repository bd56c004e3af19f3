"""The languages that mBART, NLLB, M2M100 and their like read and write: a special token of input and answer each."""

from dataclasses import dataclass

from transformers import GenerationConfig, PreTrainedTokenizerBase

from job.errors import SettingsError

SHOWN = 5


@dataclass(frozen=True)
class Languages:
    """By the names that the tokenizer has for them: "de_DE" (mBART), "deu_Latn" (NLLB), "de" (M2M100)."""

    source: str | None = None
    target: str | None = None


def choose_languages(tokenizer: PreTrainedTokenizerBase, wanted: Languages, own: GenerationConfig) -> None:
    """Makes `tokenizer` write inputs and answers in the languages `wanted`, in its saved form too.

    A target that is not wanted is the one that the model begins every answer with (`own`), if it has one.
    Raises SettingsError for a language that it lacks, and for one that is missing or has no meaning for this model.
    """
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        if given := next((name for name in ("source", "target") if getattr(wanted, name)), None):
            raise SettingsError(
                f"{given.upper()}_LANGUAGE={getattr(wanted, given)}: this model knows no languages by name. Leave it unset; "
                "a prefix such as `translate English to German: ` belongs into PROMPT_TEMPLATE."
            )
        return
    target = wanted.target or tokenizer.tgt_lang or _language_of(tokenizer, own.forced_bos_token_id)
    if target is None:
        raise SettingsError(f"TARGET_LANGUAGE is not set, and this model writes many. {_advice(tokenizer)}")
    for name, language in (("source", wanted.source), ("target", target)):
        if language is not None:
            _set_language(tokenizer, name, language)


def describe_languages(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What inputs and answers are taken for, for a person; None for a model that knows no languages by name."""
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return None
    return (
        f"inputs are read as {tokenizer.src_lang}, answers written as {tokenizer.tgt_lang}; SOURCE_LANGUAGE and TARGET_LANGUAGE "
        "change it"
    )


def language_token(tokenizer: PreTrainedTokenizerBase) -> tuple[int | None, bool]:
    """The token of the language that answers are written in (None where there is none), and whether it is their first.

    Where it is not, it follows the end marker (mBART), and the decoder is started with it.
    """
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return None, False
    added = tokenizer(text_target="").input_ids
    end = added.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in added[1:] else 0
    return (added[end - 1], True) if end else (added[-1], False)


def _set_language(tokenizer: PreTrainedTokenizerBase, name: str, language: str) -> None:
    if language not in (known_languages(tokenizer) or {language}):
        raise SettingsError(f"{name.upper()}_LANGUAGE={language}: this model does not know it. {_advice(tokenizer)}")
    attribute = {"source": "src_lang", "target": "tgt_lang"}[name]
    setattr(tokenizer, attribute, language)
    tokenizer.init_kwargs[attribute] = language  # what save_pretrained writes


def known_languages(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Language -> token; empty for a tokenizer that does not list them."""
    if hasattr(tokenizer, "lang_code_to_token"):  # M2M100
        return {language: tokenizer.convert_tokens_to_ids(token) for language, token in tokenizer.lang_code_to_token.items()}
    usual = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.mask_token}
    usual |= {tokenizer.cls_token, tokenizer.sep_token}
    return {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens if token not in usual}


def _language_of(tokenizer: PreTrainedTokenizerBase, token: int | None) -> str | None:
    return next((language for language, other in known_languages(tokenizer).items() if other == token), None)


def _advice(tokenizer: PreTrainedTokenizerBase) -> str:
    known = list(known_languages(tokenizer))
    return f"Set it to one of its {len(known)}, such as {', '.join(known[:SHOWN])}."
