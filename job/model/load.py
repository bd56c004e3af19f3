"""Config, tokenizer and base model, each loaded so that a person's mistake becomes one line."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from job.errors import InputMissing, SettingsError, first_line
from job.model.cpu_kernels import use_onednn
from job.model.kernels import fuse_gelu, fuse_norms, narrow_wo
from job.model.patches import choose_attention_kernels, keep_expert_capacity, keep_nf4_weights, keep_wo_in_float32, quantised_wo
from job.system.file_system import MEANINGS, error_number
from job.system.hub import hub_errors

END_BYTES = 2**22
MADE_UP = 1
"""Tokens beside special ones of a tokenizer without files: T5's has "▁"."""


@dataclass(frozen=True)
class BaseModel:
    """Which base model to load."""

    model_id: str
    revision: str | None = None
    token: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def __str__(self) -> str:
        return f"MODEL_ID={self.model_id}"

    def arguments(self) -> dict:
        """The arguments that every `from_pretrained` takes."""
        return {"revision": self.revision, "token": self.token, "trust_remote_code": self.trust_remote_code}


def load_config(base: BaseModel) -> PreTrainedConfig:
    """The model's config: a few kB, no weights. Raises InputMissing, SettingsError, AccessDenied or Transient."""
    path = Path(base.model_id)
    if path.exists() and not (path / "config.json").exists():
        raise InputMissing(f"{base}: no config.json in that folder. Point MODEL_ID at a folder made by save_pretrained.")
    if not path.exists() and base.model_id.startswith((".", "/", "~")):
        raise InputMissing(f"{base}: no such folder. Check the path, or give a hub id such as google/flan-t5-base.")
    with hub_errors(f"{base}: the hub"):
        try:
            return AutoConfig.from_pretrained(base.model_id, **base.arguments())
        except (ValueError, KeyError) as error:
            if "trust_remote_code" in str(error):
                raise SettingsError(
                    f"{base}: it comes with Python code of its own, which is not run. Read it, then set MODEL_ID={base.model_id} "
                    "and TRUST_REMOTE_CODE=true if you trust it."
                ) from error
            raise SettingsError(f"{base}: not a model that transformers knows: {first_line(error)}") from error


def fingerprint(base: BaseModel) -> str:
    """Identifies a base model's content: the hub's commit, or a sha256 over a folder's config and weight files.

    Of each file of weights it takes the size and both ends; the first holds the names, shapes and types of all tensors.
    """
    folder = Path(base.model_id)
    if not folder.is_dir():
        cached = try_to_load_from_cache(base.model_id, "config.json", revision=base.revision)
        return Path(cached).parent.name if isinstance(cached, str) else base.model_id
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name} {size}".encode() + file.read(END_BYTES))
            file.seek(max(0, size - END_BYTES))
            digest.update(file.read(END_BYTES))
    return digest.hexdigest()


def is_seq2seq(config: PreTrainedConfig, task: str, base: BaseModel) -> bool:
    """Whether the model is an encoder-decoder (else it is causal). Raises SettingsError if it is neither, or not `task`."""
    kinds = {
        "seq2seq": config.is_encoder_decoder and config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "causal": not config.is_encoder_decoder
        and (
            config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
            or "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
        ),
    }
    if not any(kinds.values()):
        raise SettingsError(
            f"{base}: a {config.model_type} model neither is an encoder-decoder nor generates text. Choose a T5, BART, Llama, ... ."
        )
    if task != "auto" and not kinds[task]:
        raise SettingsError(
            f"TASK={task}: {base.model_id} is a {'seq2seq' if kinds['seq2seq'] else 'causal'} model. Set TASK=auto."
        )
    return bool(kinds["seq2seq"])


def load_tokenizer(base: BaseModel, name_or_path: str | Path | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of the base model, or the one saved at `name_or_path`.

    Padding is the end marker where it has none, and the end marker that of the model's config where it has none (ProphetNet).
    """
    if name_or_path:
        check_code(base, Path(name_or_path))
    with hub_errors(f"{base}: the hub"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path or base.model_id, **base.arguments())
        except (OSError, ValueError, KeyError, TypeError) as error:
            number = error_number(error)
            is_refused = number in MEANINGS or (number and name_or_path)
            if Path(base.model_id).exists() and not is_refused:
                raise InputMissing(f"{base}: no tokenizer there: {first_line(error)} Save it beside the model.") from error
            raise
    if tokenizer.eos_token_id is None and isinstance(end := load_config(base).eos_token_id, int):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    if tokenizer.eos_token_id is None:
        raise SettingsError(f"{base}: its tokenizer has no end marker (eos_token), so no answer would ever end. Add one to it.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_code(base: BaseModel, folder: Path) -> None:
    """Raises SettingsError where `folder`, an adapter's, would run Python code that is not, byte for byte, the trusted base's."""
    if not base.trust_remote_code:
        return
    for path in folder.rglob("*.py"):
        name = str(path.relative_to(folder))
        own = Path(base.model_id) / name
        if not Path(base.model_id).is_dir():
            cached = try_to_load_from_cache(base.model_id, name, revision=base.revision)
            own = Path(cached) if isinstance(cached, str) else own
        if not own.is_file() or own.read_bytes() != path.read_bytes():
            raise SettingsError(
                f"{path}: TRUST_REMOTE_CODE=true is said of {base}, and this is not a file of that model. Delete it, or set "
                "TRUST_REMOTE_CODE=false."
            )


def load_base(
    base: BaseModel, seq2seq: bool, dtype: torch.dtype, quantization: BitsAndBytesConfig | None, device: str, sharded: bool = False
) -> PreTrainedModel:
    """The base model, frozen, on `device`, or in the machine's memory if it is yet to be `sharded`.

    FLAN-T5 keeps its own lm_head (never tie weights, never resize embeddings).
    """
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    form = {"dtype": dtype, "quantization_config": quantization, "device_map": {"": "cpu" if sharded else device}}
    form |= {"use_safetensors": None if base.allow_pickle else True}
    with hub_errors(f"{base}: the hub"), quantised_wo(auto, load_config(base), quantization):
        try:
            model = auto.from_pretrained(base.model_id, **form, **base.arguments())
        except OSError as error:
            _raise_for_weights(base, error)
            raise
    model.requires_grad_(False)
    choose_attention_kernels()
    fuse_gelu(model)
    fuse_norms(model, device)
    keep_nf4_weights(model)
    keep_expert_capacity(model)
    if dtype == torch.float16:
        (narrow_wo if quantization is None else keep_wo_in_float32)(model)
    if device == "cpu" and not sharded:
        use_onednn(model)
    return model


def _raise_for_weights(base: BaseModel, error: OSError) -> None:
    """Raises SettingsError or InputMissing for an `error` met while weights were loaded, unless it is the hub's."""
    folder = Path(base.model_id)
    missing = "safetensors" in str(error) and "file named" in str(error)
    if missing and not base.allow_pickle and (not folder.exists() or any(folder.glob("*.bin"))):
        raise SettingsError(
            f"{base}: it has no weights as safetensors, only as pickles, which can run code. Choose another MODEL_ID, or "
            "set ALLOW_PICKLE=true if you trust it."
        ) from error
    if folder.exists() and error_number(error) not in MEANINGS:
        raise InputMissing(f"{base}: its weights cannot be loaded: {first_line(error)}") from error


def embeddings(config: PreTrainedConfig) -> int | None:
    """How many tokens the model has embeddings for; None where its config does not say."""
    return getattr(config.get_text_config(), "vocab_size", None)


def check_vocabulary(base: BaseModel, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises InputMissing if the tokenizer is not the model's: one made up, or one whose special tokens have no embedding.

    transformers 5 makes up a tokenizer of special tokens alone, without a word, where the model's folder has none. Other tokens
    may be more than there are embeddings, as published models have it: those that occur count, see `job.data.token_range`.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    if len(set(tokenizer.get_vocab().values()) - special) <= MADE_UP:
        raise InputMissing(f"{base}: no tokenizer there, or one that has special tokens alone. Save the model's own beside it.")
    embedded = embeddings(config)
    for name in ("pad_token", "eos_token"):
        token = getattr(tokenizer, f"{name}_id")
        if embedded is not None and token is not None and token >= embedded:
            raise InputMissing(
                f'{base}: the {name} of its tokenizer, "{getattr(tokenizer, name)}", is token {token}, and the model has '
                f"{embedded} embeddings. Set another {name} in tokenizer_config.json, or save the model's own tokenizer there."
            )
