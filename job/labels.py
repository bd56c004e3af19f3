"""The label that the loss ignores, and the tokens that end an answer: what data and model have to agree on."""

IGNORED = -100


def end_tokens(eos_token_id: int | list[int] | None) -> list[int]:
    """The `eos_token_id` of a generation config, which may be one token, several or none, as a list."""
    return eos_token_id if isinstance(eos_token_id, list) else [] if eos_token_id is None else [eos_token_id]
