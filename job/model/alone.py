"""Whether a model has to answer one row at a time: some carry a state that heeds neither the mask nor whose row it is."""

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from job.model.packed_attention import ROW_LAYERS

SHORT, LONG = 2, 34
"""Tokens of the two rows that are tried."""
STEPS = 2
"""Tokens that are generated: the second one is made from what is cached."""


def must_answer_alone(model: PreTrainedModel, pad_token: int) -> bool:
    """Whether a row beside a longer one gets other logits than alone: so with RWKV, RecurrentGemma and MiniMax, not with Mamba."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if kinds <= ROW_LAYERS and not any(getattr(module, "_is_stateful", False) for module in model.modules()):
        return False
    vocabulary = model.config.get_text_config().vocab_size
    rounding = torch.finfo(model.get_input_embeddings().weight.dtype).eps ** 0.5  # of the way to another row's logits, and more
    long = [(7 * place + vocabulary // 3) % vocabulary for place in range(LONG)]
    short = long[-SHORT:]
    padding = [pad_token] * (LONG - SHORT)
    alone = _logits(model, [short], [[1] * SHORT])
    together = _logits(model, [padding + short, long], [[0] * len(padding) + [1] * SHORT, [1] * LONG])
    return any(
        bool((beside - one[0]).norm() > rounding * (other - one[0]).norm())
        for one, (beside, other) in zip(alone, together, strict=True)
    )


def _logits(model: PreTrainedModel, rows: list[list[int]], mask: list[list[int]]) -> tuple[Tensor, ...]:
    """What `rows` give at each step: (rows, vocabulary)."""
    form = GenerationConfig(
        max_new_tokens=STEPS, min_new_tokens=STEPS, num_beams=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    inputs = {"input_ids": torch.tensor(rows, device=model.device), "attention_mask": torch.tensor(mask, device=model.device)}
    with torch.inference_mode():
        return tuple(step.float() for step in model.generate(**inputs, generation_config=form).logits)
