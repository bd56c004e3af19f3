"""Tokenizer, base model and LoRA, each loaded so that a person's mistake becomes one line."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from huggingface_hub import try_to_load_from_cache
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_TARGETS
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

from job.errors import InputMissing, SettingsError
from job.model.activations import fuse_gelu
from job.system.hub import hub_errors

END_BYTES = 2**22
NO_LIMIT = 1_000_000
"""Tokenizers without a limit report a huge `model_max_length`."""


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
            raise SettingsError(f"{base}: not a model that transformers knows: {_first_line(error)}") from error


def fingerprint(base: BaseModel) -> str:
    """What tells one base model's content from another's: the hub's commit, or a sha256 over a folder's config and weight files.

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
    """The tokenizer of the base model, or the one saved at `name_or_path`. Padding is the end marker where it has none."""
    with hub_errors(f"{base}: the hub"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path or base.model_id, **base.arguments())
        except (OSError, ValueError, KeyError, TypeError) as error:
            if Path(base.model_id).exists():
                raise InputMissing(f"{base}: no tokenizer there: {_first_line(error)} Save it beside the model.") from error
            raise
    if tokenizer.eos_token_id is None:
        raise SettingsError(f"{base}: its tokenizer has no end marker (eos_token), so no answer would ever end. Add one to it.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def length_limits(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[int | None, int | None]:
    """(tokens the model was made for, tokens it has positions for), None where there is no limit."""
    hard = getattr(config, "max_position_embeddings", None)
    usual = tokenizer.model_max_length if tokenizer.model_max_length < NO_LIMIT else hard
    return (min(usual, hard) if usual and hard else usual), hard


def load_base(
    base: BaseModel, seq2seq: bool, dtype: torch.dtype, quantization: BitsAndBytesConfig | None, device: str
) -> PreTrainedModel:
    """The base model, frozen, on `device`. FLAN-T5 keeps its own lm_head (never tie weights, never resize embeddings)."""
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    form = {"dtype": dtype, "quantization_config": quantization, "device_map": {"": device}}
    form |= {"use_safetensors": None if base.allow_pickle else True}
    with hub_errors(f"{base}: the hub"), _wo_quantised(auto, load_config(base), quantization):
        try:
            model = auto.from_pretrained(base.model_id, **form, **base.arguments())
        except OSError as error:
            _raise_for_weights(base, error)
            raise
    model.requires_grad_(False)
    fuse_gelu(model)
    for name, module in model.named_modules():
        if dtype == torch.float16 and quantization is not None and name.endswith(".wo"):
            module.compute_dtype = torch.float32  # its output overflows float16 in trained T5s
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # such CPUs would repack the weights at each evaluation, with loss
    return model


def _raise_for_weights(base: BaseModel, error: OSError) -> None:
    """Raises what `error`, met while weights were loaded, means: SettingsError or InputMissing. Nothing where the hub will tell."""
    folder = Path(base.model_id)
    missing = "safetensors" in str(error) and "file named" in str(error)
    if missing and not base.allow_pickle and (not folder.exists() or any(folder.glob("*.bin"))):
        raise SettingsError(
            f"{base}: it has no weights as safetensors, only as pickles, which can run code. Choose another MODEL_ID, or "
            "set ALLOW_PICKLE=true if you trust it."
        ) from error
    if folder.exists():
        raise InputMissing(f"{base}: its weights cannot be loaded: {_first_line(error)}") from error


@contextlib.contextmanager
def _wo_quantised(auto: type, config: PreTrainedConfig, quantization: BitsAndBytesConfig | None) -> Iterator[None]:
    """While this holds, NF4 takes T5's `wo` as well, 18 % of XL: transformers leaves out what it keeps in float32.

    T5 then casts activations to the type that `wo` is stored in, which must be a float: see `bnb_4bit_quant_storage`.
    """
    kinds = getattr(auto._model_mapping.get(type(config), None), "__mro__", ())
    owner = next((kind for kind in kinds if vars(kind).get("_keep_in_fp32_modules")), None)
    if owner is None or quantization is None or not quantization.load_in_4bit:
        yield
        return
    kept, owner._keep_in_fp32_modules = owner._keep_in_fp32_modules, []
    try:
        yield
    finally:
        owner._keep_in_fp32_modules = kept


def check_vocabulary(base: BaseModel, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises InputMissing if the tokenizer is not the model's.

    transformers 5 makes up a tokenizer of special tokens alone, without a word, where the model's folder has none.
    """
    embedded = config.get_text_config().vocab_size
    if not embedded // 2 <= len(tokenizer) <= embedded:
        raise InputMissing(
            f"{base}: the tokenizer there has {len(tokenizer)} tokens, the model embeds {embedded}; they do not belong together. "
            "Save the model's own tokenizer beside it."
        )


def choose_targets(targets: tuple[str, ...], model: PreTrainedModel) -> list[str] | str:
    """`target_modules` of a LoraConfig: PEFT's choice for the model's kind if "auto".

    Raises SettingsError for a name that matches no module.
    """
    if targets == ("all-linear",):
        return "all-linear"
    if targets == ("auto",):
        return USUAL_TARGETS.get(model.config.model_type, "all-linear")
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            existing = sorted(
                {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
            )
            raise SettingsError(
                f'TARGET_MODULES: no module of the model is named "{target}"; there are {", ".join(existing)}. '
                "Name some of these, or set auto or all-linear."
            )
    return list(targets)


def add_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` with a new adapter in float32; only the adapter (and what `config` names beside it) is trained."""
    names = [name for name, _ in model.named_modules()]
    if missing := next((saved for saved in config.modules_to_save or () if not any(name.endswith(saved) for name in names)), None):
        raise SettingsError(
            f'MODULES_TO_SAVE: no module of the model is named "{missing}". Name one that is there, such as lm_head.'
        )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise SettingsError(f"LoRA: {_first_line(error)}") from error
    adapted.config.use_cache = False
    adapted.original_biases = {
        name: parameter.detach().clone()
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad and name.endswith(".bias") and "lora_" not in name and "modules_to_save" not in name
    }
    return adapted


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """`model` with the adapter saved in `folder`."""
    if not (folder / "adapter_config.json").exists():
        raise InputMissing(f"{folder}: no adapter there. Train one first, or check OUTPUT_DIR and RUN_NAME.")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name.endswith(".bias")}
    adapted = PeftModel.from_pretrained(model, str(folder))
    adapted.original_biases = {
        name: before[plain] for name, _ in adapted.named_parameters() if (plain := _plain_name(name)) in before
    }
    return adapted


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
