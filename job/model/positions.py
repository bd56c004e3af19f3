"""How many tokens a model takes: what it was made for, and what it has positions for."""

from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

NO_LIMIT = 1_000_000
"""Tokenizers without a limit report a huge `model_max_length`."""
OF_SOURCE = ("max_encoder_position_embeddings", "max_position_embeddings", "max_seq_len")
OF_TARGET = ("max_decoder_position_embeddings", "max_position_embeddings", "max_seq_len")
"""Names of the limit: LED's, the usual one (GPT-2's n_positions goes by it too), MPT's."""


@dataclass(frozen=True)
class Positions:
    """Positions of an encoder and a decoder, in tokens; None where there is no limit. A causal model's are the same ones."""

    source: int | None
    target: int | None
    shared: bool = False
    """Whether prompt and answer stand in one sequence (a causal model)."""
    is_hard: bool = True
    """Whether there is nothing behind the last one, as in a table; rotary positions go on, though nobody trained them."""

    def room(self, prompt_length: int, max_new_tokens: int) -> int:
        """How many tokens an answer to a prompt of that many may have: `max_new_tokens`, or what is left of them, at least 1."""
        if self.target is None or not self.is_hard:
            return max_new_tokens
        return max(1, min(max_new_tokens, self.target - prompt_length if self.shared else self.target))


def read_positions(config: PreTrainedConfig) -> Positions:
    """What a model's `config` says."""
    encoder, decoder = config.get_text_config(encoder=True), config.get_text_config(decoder=True)
    is_hard = not getattr(decoder, "rope_parameters", None)
    return Positions(
        _first((config, encoder), OF_SOURCE), _first((config, decoder), OF_TARGET), not config.is_encoder_decoder, is_hard
    )


def usual_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens of an input that the model was made for; None where nothing limits it."""
    hard = read_positions(config).source
    usual = tokenizer.model_max_length if tokenizer.model_max_length < NO_LIMIT else hard
    return min(usual, hard) if usual and hard else usual


def _first(configs: tuple[PreTrainedConfig, ...], names: tuple[str, ...]) -> int | None:
    found = (getattr(config, name, None) for name in names for config in configs)
    return next((number for number in found if isinstance(number, int) and number > 0), None)
