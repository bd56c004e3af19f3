"""What an encoder-decoder's decoder reads while it learns: the labels, shifted by one token.

Our own, and not the model's `prepare_decoder_input_ids_from_labels`, which M2M100, NLLB and BlenderBot do not have.
"""

from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from job.labels import IGNORED


def shift_right(labels: Sequence[int], first_token: int, pad_token: int) -> list[int]:
    """`first_token`, then `labels` without their last; the label that is ignored becomes padding."""
    return [first_token, *(pad_token if label == IGNORED else label for label in labels[:-1])]


def decoder_start_token(model: PreTrainedModel) -> int:
    """The token that the decoder of `model` reads before its first."""
    return first_token(model.generation_config, model.config)


def first_token(own: GenerationConfig, config: PreTrainedConfig) -> int:
    """`decoder_start_token_id` of a generation config or config; where there is none (T5Gemma), `bos_token_id`."""
    decoder = config.get_text_config(decoder=True)
    places = [(of, name) for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id") for of in (own, config, decoder)]
    found = (getattr(of, name, None) for of, name in places)
    return next((token for token in found if token is not None), 0)
