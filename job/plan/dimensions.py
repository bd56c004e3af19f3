"""The numbers of a model that its memory and its time follow from, counted on the model itself, made without weights."""

import contextlib
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MoEModelOutputWithPastAndCrossAttentions

from job.errors import SettingsError, first_line
from job.model.targets import all_linear, default_targets, is_expert
from job.plan.stack import Stack, decays, matrix, read_stack

MEASURED_SEQ2SEQ = ("t5", "mt5", "umt5", "bart", "mbart", "m2m_100", "pegasus", "marian", "mvp", "blenderbot", "blenderbot-small")
CAREFUL, RECURRENT = 2.0, 8.0
"""The simulated step of other encoder-decoders, of capped scores, convolutions and experts keeps up to 1.8 times what the formula
says; that of recurrent blocks, by torch's own operations instead of their kernels, up to 7.4 times."""
OWN_HEAD = ("t5", "mt5", "umt5", "longt5")
"""Kinds whose gated variants are published with an output layer of their own, which their config forgets."""


@dataclass(frozen=True)
class ModelDimensions:
    """A language model's sizes."""

    decoder: Stack
    encoder: Stack | None
    parameters: int
    linears: int
    """Parameters of all linear layers but the output layer: what a quantisation makes smaller."""
    linear_sides: int
    """Inputs and outputs of these layers."""
    in_float32: int
    """Those of them that transformers keeps in float32 beside float16, and as they are beside int8: `wo` in T5."""
    embeddings: int
    """Parameters of the embedding, and of the output layer where it has its own."""
    vocabulary: int
    adapted: int
    """Inputs and outputs of all layers that get LoRA if nobody says which."""
    caution: float
    """What the formula of a step's activations is multiplied with: 1 where it was measured for models of this kind."""
    all_logits: bool
    """Whether a step holds the logits of all its answers, as the model does more to them than the output layer does."""

    @property
    def is_estimate(self) -> bool:
        """Whether the memory of a step was not measured for models of this kind, and is counted generously."""
        return self.caution > 1

    @property
    def seq2seq(self) -> bool:
        return self.encoder is not None

    @property
    def stacks(self) -> list[Stack]:
        """In the order of the computation."""
        return [self.encoder, self.decoder] if self.encoder else [self.decoder]

    @property
    def blocks(self) -> int:
        return sum(stack.layers for stack in self.stacks)

    @property
    def width(self) -> int:
        return max(stack.width for stack in self.stacks)

    def adapter(self, r: int) -> int:
        """Parameters of LoRA on the layers that get it if nobody says which."""
        return r * self.adapted

    def training_flops(self, source: float, target: float) -> float:
        """FLOPs of a forward and a backward pass through a frozen base, one row of that many real tokens, no recomputation."""
        decoder, head = self.decoder, self.vocabulary * self.decoder.width
        if self.encoder is None:
            length = source + target
            return 4 * length * (decoder.touched + head) + 12 * decoder.attention * decoder.layers * length**2 / 2
        crossing = 2 * decoder.layers * self.encoder.width * decoder.key_value
        per_source, per_target = self.encoder.touched + crossing, decoder.touched - crossing + head
        quadratic = self.encoder.attention * self.encoder.layers * source**2
        quadratic += decoder.attention * decoder.layers * (target**2 + source * target)
        return 4 * (source * per_source + target * per_target) + 12 * quadratic


_read: dict[str, ModelDimensions] = {}


def read_dimensions(config: PreTrainedConfig) -> ModelDimensions:
    """The sizes of the model that `config` describes. Raises SettingsError for a config that makes none."""
    key = f"{type(config)} {config.to_json_string(use_diff=False)}"
    if key not in _read:
        try:
            model = without_weights(config)
        except Exception as error:  # whatever a model's own code stumbles over
            raise SettingsError(
                f"MODEL_ID: the config of this {config.model_type} makes no model that can be planned for: {first_line(error)}. "
                "Check its config.json, or choose another MODEL_ID."
            ) from error
        _read[key] = _count(model, config)
    return _read[key]


def without_weights(config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
    """The model on the meta device, where tensors have shapes alone; `options` are from_config's."""
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    own_code = {"trust_remote_code": True} if type(config).__module__.startswith("transformers_modules") else {}
    with torch.device("meta"):
        return auto.from_config(config, **own_code, **options)


def _count(model: PreTrainedModel, config: PreTrainedConfig) -> ModelDimensions:
    head, layers = model.get_output_embeddings(), all_linear(model)
    kept = tuple(f".{name}" for name in getattr(model, "_keep_in_fp32_modules", None) or ())
    linears = {name: matrix(layer) for name, layer in layers.items() if layer is not head}
    in_float32 = sum(weight.numel() for name, weight in linears.items() if name.endswith(kept)) if kept else 0
    encoder = (
        read_stack(model.get_encoder(), head, _text_config(config, "encoder"), "encoder") if config.is_encoder_decoder else None
    )
    decoder = read_stack(_decoder(model), head, _text_config(config, "decoder"), "decoder")
    own_head = matrix(head).numel() if config.model_type in OWN_HEAD and config.is_gated_act else 0
    tables = {id(matrix(table)): matrix(table).numel() for table in (model.get_input_embeddings(), head)}
    return ModelDimensions(
        decoder=decoder,
        encoder=encoder,
        parameters=sum(parameter.numel() for parameter in model.parameters()) + own_head,
        linears=sum(weight.numel() for weight in linears.values()),
        linear_sides=sum(sum(weight.shape[-2:]) for weight in linears.values()),
        in_float32=in_float32,
        embeddings=sum(tables.values()) + own_head,
        vocabulary=matrix(head).shape[0],
        adapted=sum(sum(matrix(layers[name]).shape) for name in default_targets(model)),
        caution=_caution(model, config, decoder.heads),
        all_logits=not head_is_last(model),
    )


def _caution(model: PreTrainedModel, config: PreTrainedConfig, heads: int) -> float:
    if decays(model) or not heads:
        return RECURRENT
    others = config.is_encoder_decoder and config.model_type not in MEASURED_SEQ2SEQ
    experts = any(is_expert(name) for name, _ in model.named_parameters())
    convolutions = any(isinstance(module, nn.Conv1d) for module in model.modules())
    capped = getattr(_text_config(config, "decoder"), "attn_logit_softcapping", None)
    return CAREFUL if others or experts or convolutions or capped else 1.0


def head_is_last(model: PreTrainedModel) -> bool:
    """Whether the output layer's logits are the model's, nothing added, capped or scaled; no where that cannot be tried.

    The model may be on any device: its blocks are left out.
    """
    head, seen = model.get_output_embeddings(), []
    ids = torch.ones(1, 1, dtype=torch.long, device=matrix(head).device)
    hidden = MoEModelOutputWithPastAndCrossAttentions(last_hidden_state=matrix(head)[None, :1])
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    parts = {model.get_encoder(), _decoder(model)} if model.config.is_encoder_decoder else {_decoder(model)}
    handle = head.register_forward_hook(lambda _, __, logits: seen.append(logits))
    try:
        with torch.no_grad(), contextlib.ExitStack() as replaced:
            for part in parts - {model}:
                replaced.enter_context(patch.object(part, "forward", lambda *_, **__: hidden))
            logits = model(**inputs, use_cache=False).logits
        return any(logits is found for found in seen)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        return False
    finally:
        handle.remove()


def _decoder(model: PreTrainedModel) -> nn.Module:
    """The stack that the answer passes. ModernBERT calls its output layer `decoder`, which transformers then takes for it."""
    found: nn.Module = model.get_decoder()
    return model.base_model if found is model.get_output_embeddings() else found


def _text_config(config: PreTrainedConfig, side: str) -> PreTrainedConfig:
    """What one side of the model has for text: a config of its own in T5Gemma, else that of all."""
    own = getattr(config, side, None)
    return (own if isinstance(own, PreTrainedConfig) else config).get_text_config()
