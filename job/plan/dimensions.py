"""The numbers of a model that its memory and its time follow from."""

from dataclasses import dataclass

from transformers import PreTrainedConfig

T5_FAMILY = ("t5", "mt5", "umt5")
INNER = ("d_ff", "intermediate_size", "ffn_dim", "n_inner", "encoder_ffn_dim")
UNGATED = (
    "gpt2", "openai-gpt", "opt", "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gptj", "gpt_bigcode", "starcoder2", "bloom", "phi",
    "falcon", "mpt", "codegen", "xglm", "biogpt", "persimmon", "nemotron", "apertus", "arcee",
)  # fmt: skip
"""Causal models with two matrices in the feed-forward; most of what came after Llama has three."""


@dataclass(frozen=True)
class ModelDimensions:
    """A transformer's sizes. The T5 family's own terms are exact; other encoder-decoders are taken for one."""

    seq2seq: bool
    is_t5: bool
    layers: int
    """Blocks of the decoder, and of the encoder where there is one."""
    width: int
    """Of the residual stream: d_model, hidden_size."""
    inner: int
    """Of the feed-forward's middle: d_ff, intermediate_size."""
    attention: int
    """Of all query heads together: heads x head size."""
    key_value: int
    """Of all key heads together."""
    heads: int
    vocabulary: int
    inner_matrices: int
    """3 where the feed-forward is gated, else 2."""
    has_own_head: bool
    """Whether the output layer is not the embedding."""

    @property
    def blocks(self) -> int:
        return self.layers * (2 if self.seq2seq else 1)

    @property
    def output_projections(self) -> int:
        """Parameters of the feed-forwards' last matrices, `wo` in T5."""
        return self.blocks * self.inner * self.width

    @property
    def linears(self) -> int:
        """Parameters of all linear layers but the output layer."""
        attention = 2 * self.width * (self.attention + self.key_value)
        attentions = 3 * self.layers if self.seq2seq else self.layers
        return attentions * attention + self.blocks * self.inner_matrices * self.inner * self.width

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.width * (2 if self.has_own_head else 1)

    @property
    def parameters(self) -> int:
        """Without norms, biases and position tables: below 0.2 % of a model."""
        return self.linears + self.embeddings

    def adapter(self, r: int) -> int:
        """Parameters of LoRA on the query and value projections."""
        attentions = 3 * self.layers if self.seq2seq else self.layers
        return attentions * r * (2 * self.width + self.attention + self.key_value)

    def training_flops(self, source: float, target: float) -> float:
        """FLOPs of a forward and a backward pass through a frozen base, one row of that many real tokens, no recomputation."""
        attention, layers = self.attention, self.layers
        if not self.seq2seq:
            length = source + target
            touched = self.linears + self.vocabulary * self.width
            return 4 * length * touched + 12 * attention * layers * length**2 / 2
        gated = self.inner_matrices * self.width * self.inner
        per_source = layers * (4 * self.width * attention + gated) + 2 * layers * self.width * attention
        per_target = layers * (6 * self.width * attention + gated) + self.vocabulary * self.width
        quadratic = 12 * attention * layers * (source**2 + target**2 + source * target)
        return 4 * (source * per_source + target * per_target) + quadratic


def read_dimensions(config: PreTrainedConfig) -> ModelDimensions:
    """The shape that a model's `config` describes, with the names that transformers maps to each other."""
    text = config.get_text_config()
    is_t5 = config.model_type in T5_FAMILY
    heads = text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or getattr(text, "d_kv", None) or text.hidden_size // heads
    inner = next((size for name in INNER if (size := getattr(text, name, None))), 4 * text.hidden_size)
    gated = getattr(config, "is_gated_act", False) if config.is_encoder_decoder else config.model_type not in UNGATED
    return ModelDimensions(
        seq2seq=bool(config.is_encoder_decoder),
        is_t5=is_t5,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner=inner,
        attention=heads * head_size,
        key_value=(getattr(text, "num_key_value_heads", None) or heads) * head_size,
        heads=heads,
        vocabulary=text.vocab_size,
        inner_matrices=3 if gated else 2,
        has_own_head=gated if is_t5 else not config.tie_word_embeddings,
    )
