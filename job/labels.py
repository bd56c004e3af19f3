"""The label that the loss ignores: what data and model have to agree on."""

IGNORED = -100
