"""How a model begins and ends an answer: settled once, and the same in training, evaluation, proof, `predict` and merged weights.

It is kept as transformers' own GenerationConfig, in the adapter's folder too, so that a plain `generate` stops where ours does.
"""

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from job.errors import InputMissing, first_line
from job.labels import end_tokens
from job.model.decoder_inputs import first_token
from job.model.languages import language_token
from job.model.load import BaseModel
from job.system.hub import hub_errors

FILE = "generation_config.json"
TAKEN_OVER = ("bos_token_id", "forced_bos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens")
"""What of a base's own config belongs to its tokens; the rest of it (beams, lengths, sampling) belongs to a task of its own."""


def answering_config(
    own: GenerationConfig, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int | None] = ()
) -> GenerationConfig:
    """Greedy decoding with the special tokens of the model (`own`, `config`) and those of its tokenizer.

    ends: further tokens that end an answer, such as what a chat template writes after an assistant's turn.
    """
    found = plain_decoding(own)
    found.pad_token_id = tokenizer.pad_token_id
    found.eos_token_id = stop_tokens(own, tokenizer, ends)
    if config.is_encoder_decoder:
        found.decoder_start_token_id = first_token(own, config)
        language, is_first = language_token(tokenizer)
        if language is not None and is_first:
            found.forced_bos_token_id = language
        elif language is not None:
            found.decoder_start_token_id = language
    return found


def plain_decoding(own: GenerationConfig) -> GenerationConfig:
    """Greedy decoding, whatever a model's own config says, with its special tokens."""
    found = GenerationConfig(do_sample=False, use_cache=True, **{name: getattr(own, name, None) for name in TAKEN_OVER})
    found.eos_token_id, found.pad_token_id = own.eos_token_id, own.pad_token_id
    found.decoder_start_token_id = own.decoder_start_token_id
    return found


def stop_tokens(own: GenerationConfig, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int | None] = ()) -> list[int]:
    """All tokens that end an answer, the tokenizer's own first: it ends the labels."""
    found = (tokenizer.eos_token_id, *end_tokens(own.eos_token_id), *ends)
    return list(dict.fromkeys(token for token in found if token is not None))


def load_own_config(base: BaseModel, config: PreTrainedConfig) -> GenerationConfig:
    """The base's own generation config, as `from_pretrained` gives it to the model; no weights are read.

    Raises InputMissing for one that is damaged, and AccessDenied, Transient, ... where the hub does not say whether there is one.
    """
    with hub_errors(f"{base}: the hub"):
        try:
            return GenerationConfig.from_pretrained(base.model_id, revision=base.revision, token=base.token)
        except OSError as error:
            if isinstance(error.__context__, ValueError):
                raise InputMissing(f"{base}: its {FILE} cannot be read: {first_line(error.__context__)}") from error
            if not _says_that_it_is_absent(error):
                raise
            return GenerationConfig.from_model_config(config)  # an older model, which has it in its config.json


def _says_that_it_is_absent(error: OSError) -> bool:
    """Whether the file is known not to be there: transformers says so in an error of its own, every other one has a cause.

    Offline the cache is all there is; it does not tell a file that the model lacks from one that was not downloaded.
    """
    cause = error.__context__
    return type(error) is OSError and (cause is None or (constants.HF_HUB_OFFLINE and isinstance(cause, LocalEntryNotFoundError)))


def read_answering_config(adapter: Path) -> GenerationConfig | None:
    """What was saved with an adapter; None for one of lora-job 0.1.0."""
    return GenerationConfig.from_pretrained(str(adapter)) if (adapter / FILE).exists() else None
