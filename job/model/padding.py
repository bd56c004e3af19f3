"""Whether what stands before a row changes what a decoder makes of it, though the mask says that it is padding."""

from itertools import repeat

import torch
from torch import Tensor
from transformers import PreTrainedModel

PADDED_BY = 32
SHARE = 0.1
"""Of what padding without a mask changes: above it, it is more than rounding."""


def sees_padding(model: PreTrainedModel, pad_token: int) -> bool:
    """Whether `model` carries a state from token to token that padding changes: RWKV's and RecurrentGemma's, not Mamba's."""
    if not any(getattr(module, "_is_stateful", False) for module in model.modules()):
        return False
    vocabulary = model.config.get_text_config().vocab_size
    row = [vocabulary // 2, vocabulary // 3]
    padded, mask = [*repeat(pad_token, PADDED_BY), *row], [*repeat(0, PADDED_BY), *repeat(1, len(row))]
    alone = _last_logits(model, row, [1, 1])
    masked, unmasked = _last_logits(model, padded, mask), _last_logits(model, padded, [1] * len(padded))
    return bool((masked - alone).norm() > SHARE * (unmasked - alone).norm())


def _last_logits(model: PreTrainedModel, row: list[int], mask: list[int]) -> Tensor:
    inputs = {"input_ids": torch.tensor([row]), "attention_mask": torch.tensor([mask])}
    with torch.inference_mode():
        return model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}, use_cache=False).logits[0, -1].float()
